"""Save what the sources of a fusion have read, and restore it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from cf_local.errors import CfLocalError
from cf_local.files import replacing
from cf_local.method.session import Readable, Resumable
from cf_local.method.tokenization import n_common
from cf_local.progress import IsCancelled, never
from cf_local.runtime.fusion import Fusion
from cf_local.statecache import sealed
from cf_local.statecache.folder import StateFolder
from cf_local.types import Prompt

MIN_READING_S = 0.5
"""What takes less time to read again is not saved,"""
MIN_GAIN = 2.0
"""nor what is not this many times slower to read than its state is to load from disk."""
_DISK_BYTES_PER_S = 500e6

_log = logging.getLogger(__name__)


def save_states(
    fusion: Fusion,
    prompt: Prompt,
    owner: str,
    *,
    folder: StateFolder | None = None,
    is_cancelled: IsCancelled = never,
) -> int:
    """Save what each source has read of ``prompt``; returns for how many something was saved.

    ``owner`` (see ``owner_of``) has one state per source, which replaces the one before; if nothing
    is saved, that one is deleted. Waits until no answer is running in the first slot. Raises
    nothing.
    """
    where = folder or StateFolder()
    return sum(_each(fusion, lambda source: _save(source, prompt, owner, where), is_cancelled))


def restore_states(
    fusion: Fusion,
    prompt: Prompt,
    owner: str,
    *,
    folder: StateFolder | None = None,
    is_cancelled: IsCancelled = never,
) -> int:
    """Restore what was saved for ``owner``, else for any text that begins as ``prompt`` does.

    Returns for how many sources something was restored. Raises nothing.
    """
    where = folder or StateFolder()
    return sum(_each(fusion, lambda source: _restore(source, prompt, owner, where), is_cancelled))


def is_worthwhile(state: Readable) -> bool:
    """Whether saving a state spares noticeable time."""
    loading_s = state.n_bytes / _DISK_BYTES_PER_S
    return state.n_tokens > 0 and state.reading_s > max(MIN_READING_S, MIN_GAIN * loading_s)


def _each(
    fusion: Fusion, work: Callable[[Resumable], bool], is_cancelled: IsCancelled
) -> list[bool]:
    """Do ``work`` for each source whose state can be saved, in the thread that computes."""
    done: list[bool] = []
    for source in fusion.sources:
        for session in source.sessions[:1]:
            if isinstance(session, Resumable) and not is_cancelled():
                try:
                    done.append(fusion.alone(partial(work, session)))
                except (CfLocalError, OSError) as error:
                    _log.info("Nothing saved or restored for %s: %s", source.info.name, error)
    return done


def _save(session: Resumable, prompt: Prompt, owner: str, folder: StateFolder) -> bool:
    key = session.state_key
    place = folder.file(owner, key)
    state = session.readable(prompt)
    if not is_worthwhile(state) or not folder.make_room(state.n_bytes, place):
        place.unlink(missing_ok=True)  # the conversation has changed
        return False
    with replacing(place, private=True) as path:
        tokens = session.save(path, prompt)
        if tokens:
            sealed.seal(path, key, tokens)
        else:
            path.unlink()
    _log.info("%s: saved %d tokens, %d bytes", session.source.info.name, len(tokens), state.n_bytes)
    return bool(tokens)


def _restore(session: Resumable, prompt: Prompt, owner: str, folder: StateFolder) -> bool:
    key = session.state_key
    n_read = session.readable(prompt).n_tokens
    path = folder.file(owner, key)
    # The owner's state is restored unchecked: if the oldest turns were left out, only the next
    # question shows how much of it is of use.
    if n_read or not path.exists():
        similar = _similar(folder.of_key(key), session.prompt_tokens(prompt), n_read)
        if similar is None:
            return False
        path = similar
    if not sealed.is_whole(path, key):
        _log.info("%s is damaged or not what its name says; it is deleted.", path)
        path.unlink(missing_ok=True)
        return False
    n_tokens = session.restore(path)
    _log.info("%s: restored %d tokens of %s", session.source.info.name, n_tokens, path)
    with suppress(OSError):
        path.touch()  # used now, so it is deleted last
    return n_tokens > 0


def _similar(paths: Sequence[Path], wanted: Sequence[int], n_read: int) -> Path | None:
    """The file that shares most tokens with ``wanted``, if these are more than ``n_read``.

    They must also be more than half of either, since a file is read as a whole.
    """
    best, n_best = None, n_read
    for path in paths:
        tokens = sealed.tokens_of(path)
        n_same = n_common(tokens, wanted)
        if n_same > n_best and 2 * n_same > min(len(tokens), len(wanted)):
            best, n_best = path, n_same
    return best

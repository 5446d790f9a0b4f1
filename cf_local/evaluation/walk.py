"""Walks along a good text, and asks at every word what the sources and their fusion would choose.

A choice is right if it is the next word of the text; then the text goes on, whatever was chosen.
That takes no judge and no generated answers: thousands of choices in minutes. One walk records the
drafts and scores of all sources, so every score and every weighing can be tried on it afterwards
(``word_marks``).
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from cf_local.errors import Cancelled, ContextError, InputError
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant, is_alone
from cf_local.method.boundary import is_word_boundary, whole_characters, words_of
from cf_local.method.session import Session, prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.progress import IsCancelled, never
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Sampling, Settings
from cf_local.types import Candidate, Prompt, Score

_AHEAD = 96  # bytes of the text that a source reads in one pass
_OF_WALK = ("segments", "segment_limit")
_OF_VARIANT = ("mode", "only", "score", "weights")


@dataclass(frozen=True, slots=True)
class Word:
    """What all sources drafted where one word of the text comes next, and every source's scores.

    ``drafts`` has the index of each source's candidate; ``scores`` a row per source and a column
    per candidate, none if all drafted the same. ``right`` says which candidates are the next word,
    and ``next_scores`` how each source scores that word, whether drafted or not.
    """

    candidates: tuple[Candidate, ...]
    drafts: tuple[int, ...]
    right: tuple[bool, ...]
    scores: tuple[tuple[Score, ...], ...]
    next_scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """The words of one text, by the ``item`` that it answers.

    It has fewer than ``n_words`` where the context of a source was full, none where the prompt did
    not fit.
    """

    item: str
    n_words: int
    words: tuple[Word, ...]


class WalkStore:
    """The walks so far, in memory."""

    def __init__(self) -> None:
        self.walks: dict[str, Walk] = {}
        """By the id of the item."""

    def append(self, walked: Walk) -> None:
        """Store a walk."""
        self.walks[walked.item] = walked


def walks(
    fusion: Fusion,
    items: Sequence[Item],
    settings: Settings,
    store: WalkStore | None = None,
    *,
    is_cancelled: IsCancelled = never,
) -> Iterator[Walk]:
    """Walk along the answer of each item with all sources; what is in ``store`` is not read again.

    A walk is in the store before it is yielded. ``settings`` are those of ``walk_settings``. Raises
    Cancelled.
    """
    store = store or WalkStore()
    sessions = [source.sessions[0] for source in fusion.sources]
    for item in items:
        if item.id not in store.walks:
            if is_cancelled():
                raise Cancelled("The evaluation was interrupted.")
            words = fusion.alone(partial(_words, sessions, item, settings, is_cancelled))
            store.append(Walk(item.id, len(words_of(item.accepted[0])), words))
        yield store.walks[item.id]


def walk_settings(settings: Settings) -> Settings:
    """The settings as far as they matter on a walk; the others have their defaults.

    Raises InputError for segments of whole sentences.
    """
    if settings.segments == "sentence":
        raise InputError(
            "On reference texts words are compared, not sentences. Choose --segments aligned or "
            "shortest."
        )
    kept = {key: settings.get(key) for key in (*_OF_WALK, "score", "weights")}
    return replace(Settings(), **kept)


def check_variant(variant: Variant, settings: Settings) -> None:
    """Raise InputError for a variant that one walk with ``settings`` cannot serve."""
    of_variant, why = variant.settings, "one walk along the texts serves all variants, so each can"
    changed = [
        key
        for key in OPTIONS
        if key not in _OF_VARIANT and of_variant.get(key) != settings.get(key)
    ]
    if not of_variant.is_final_as_written:
        changed.insert(0, f"mode {of_variant.mode}")
    if changed:
        raise InputError(
            f"variant {variant.name!r}: {', '.join(changed)} cannot be measured on reference "
            f"texts: {why} only set score, weights, weight.SOURCE and sources in mode cool, or "
            "name a source alone (single only=SOURCE)."
        )
    if is_alone(variant) and variant.settings.only is None:
        raise InputError(f"variant {variant.name!r}: name the source, as only=SOURCE.")


def walk(
    sessions: Sequence[Session],
    prompt: Prompt,
    reference: str,
    settings: Settings,
    *,
    is_cancelled: IsCancelled = never,
) -> Iterator[Word]:
    """The words of ``reference`` as an answer to ``prompt``, up to its end.

    Ends early where the context of a source is full. Raises ContextError for a prompt that does not
    fit, and Cancelled.
    """
    for session in sessions:
        prefill(session, prompt, sampling=Sampling(), looks_ahead=True, is_cancelled=is_cancelled)
    rest, n_read = reference.encode(), 0
    words = [word.encode() for word in words_of(reference)]
    for word in words:
        if n_read < 2 * len(word) and rest:
            ahead = whole_characters(rest[:_AHEAD])
            for session in sessions:
                if session.lookahead is not None:
                    session.lookahead.prefetch([ahead])
            n_read = len(ahead)
        yield _word(sessions, rest, len(word), settings)
        try:
            for session in sessions:
                session.commit(Candidate(word, ends=False))
        except ContextError:
            return
        rest, n_read = rest[len(word) :], n_read - len(word)


def _words(
    sessions: Sequence[Session], item: Item, settings: Settings, is_cancelled: IsCancelled
) -> tuple[Word, ...]:
    """The words of an item's answer as far as they fit; none if its prompt does not."""
    (reference,) = item.accepted
    words: list[Word] = []
    with suppress(ContextError):
        # Those before an error stay in the list.
        words.extend(walk(sessions, item.prompt, reference, settings, is_cancelled=is_cancelled))
    return tuple(words)


def _word(sessions: Sequence[Session], rest: bytes, n_next: int, settings: Settings) -> Word:
    """The drafts where ``rest`` comes next, whose first word has ``n_next`` bytes."""
    drafts = []
    for session in sessions:
        others = [other for other in sessions if other is not session]
        limit = max(1, min(settings.segment_limit, session.n_free))
        draft = draft_segment(session, others, settings.segments, limit)
        drafts.append(Candidate(draft.text, draft.ends))
    candidates = tuple(dict.fromkeys(drafts))
    next_word = Candidate(rest[:n_next], ends=n_next == len(rest))
    is_disputed = len(candidates) > 1
    asked = list(dict.fromkeys([*(candidates if is_disputed else ()), next_word]))
    scores = [session.score(asked, word_ends=True) for session in sessions]
    return Word(
        candidates,
        tuple(candidates.index(draft) for draft in drafts),
        tuple(_is_next(candidate, rest, n_next) for candidate in candidates),
        tuple(tuple(row[: len(candidates)]) for row in scores) if is_disputed else (),
        tuple(row[asked.index(next_word)] for row in scores),
    )


def _is_next(candidate: Candidate, rest: bytes, n_next: int) -> bool:
    """Whether a candidate is what comes next: whole words, and the end with the last one."""
    text = candidate.text
    if candidate.ends:
        return text == rest
    after = rest[len(text) :]
    return (len(text) >= n_next and bool(after) and rest.startswith(text)) and is_word_boundary(
        text, after
    )

"""Keeps the saved conversation equal to the one on the screen, whatever happens to the file.

``save`` writes the difference between what was saved last and what is now, in one transaction. What
cannot be written is told once and tried again with the next change: nothing is lost by it.
"""

from collections.abc import Callable
from time import monotonic

from cf_local.chats.database import BrokenStoreError, ChatStore, StaleError
from cf_local.chats.transcript import Transcript
from cf_local.files import UnwritableError

INTERVAL_S = 0.25
"""How often an answer is saved while it is written."""


class Autosave:
    """Saves one conversation after the other; without a ``store`` it does nothing."""

    def __init__(
        self, store: ChatStore | None, models: str, on_notice: Callable[[str], None]
    ) -> None:
        self.models = models
        self.number: int | None = None
        """The number of the conversation that is saved; None before its first turn."""
        self._store = store
        self._on_notice = on_notice
        self._revision = 0
        self._saved = Transcript()
        self._last_s = -INTERVAL_S
        self._is_failing = False

    def follow(
        self, number: int | None, revision: int = 0, saved: Transcript | None = None
    ) -> None:
        """Save into that conversation from now on, of which ``saved`` is there; None: a new one."""
        self.number, self._revision, self._saved = number, revision, saved or Transcript()

    def save(self, transcript: Transcript) -> None:
        """Save a conversation now. One without turns makes no entry."""
        self._last_s = monotonic()
        is_new = self.number is None and not transcript.turns
        if self._store is None or is_new or transcript == self._saved:
            return
        try:
            self._write(self._store, transcript)
            self._is_failing = False
        except (UnwritableError, BrokenStoreError) as error:
            if not self._is_failing:
                self._on_notice(f"This chat goes on but is not saved. {error}")
            self._is_failing = True

    def save_soon(self, transcript: Transcript) -> None:
        """Save a conversation unless that was done a moment ago."""
        if monotonic() - self._last_s >= INTERVAL_S:
            self.save(transcript)

    def _write(self, store: ChatStore, transcript: Transcript) -> None:
        pairs = zip(self._saved.turns, transcript.turns, strict=False)
        n_kept = next(
            (at for at, (old, new) in enumerate(pairs) if old != new),
            min(len(self._saved.turns), len(transcript.turns)),
        )
        try:
            saved = store.save(self.number, self._revision, transcript, n_kept, self.models)
        except StaleError:
            former = self.number
            saved = store.save(None, 0, transcript, 0, self.models)
            self._on_notice(
                f"Chat {former} was changed or removed elsewhere; "
                f"this one is saved as {saved[0]} from now on."
            )
        (self.number, self._revision), self._saved = saved, transcript

"""Keeps the saved conversation equal to the one on the screen, whatever happens to the file.

``save`` writes the difference to what it saved last, in one transaction. A failure to write is
reported once and retried with the next change; the conversation goes on.
"""

from collections.abc import Callable
from time import monotonic

from cf_local.chats.database import BrokenStoreError, ChatStore, StaleError
from cf_local.chats.transcript import Transcript
from cf_local.files import UnwritableError

INTERVAL_S = 0.25
"""Seconds between two saves while an answer is written."""


class Autosave:
    """Saves one conversation after the other, or nothing without a ``store``.

    ``models`` names the models that answer; ``on_notice`` receives messages for the user.
    """

    def __init__(
        self, store: ChatStore | None, models: str, on_notice: Callable[[str], None]
    ) -> None:
        self.models = models
        self.number: int | None = None
        """The number of the saved conversation; None before its first turn."""
        self._store = store
        self._on_notice = on_notice
        self._revision = 0
        self._saved = Transcript()
        self._last_s = -INTERVAL_S
        self._is_failing = False

    def follow(
        self, number: int | None, revision: int = 0, saved: Transcript | None = None
    ) -> None:
        """Save into conversation ``number`` from now on, which holds ``saved``; None: a new one."""
        self.number, self._revision, self._saved = number, revision, saved or Transcript()

    def save(self, transcript: Transcript) -> None:
        """Save a conversation now. A new one without turns is not saved."""
        self._last_s = monotonic()
        is_new = self.number is None and not transcript.turns
        if self._store is None or is_new or transcript == self._saved:
            return
        try:
            self._write(self._store, transcript)
            self._is_failing = False
        except (UnwritableError, BrokenStoreError) as error:
            if not self._is_failing:
                self._on_notice(f"This chat continues but is not saved. {error}")
            self._is_failing = True

    def save_soon(self, transcript: Transcript) -> None:
        """Save a conversation unless the last save is less than INTERVAL_S ago."""
        if monotonic() - self._last_s >= INTERVAL_S:
            self.save(transcript)

    def _write(self, store: ChatStore, transcript: Transcript) -> None:
        pairs = zip(self._saved.turns, transcript.turns, strict=False)
        n_unchanged = next(
            (at for at, (old, new) in enumerate(pairs) if old != new),
            min(len(self._saved.turns), len(transcript.turns)),
        )
        try:
            saved = store.save(self.number, self._revision, transcript, n_unchanged, self.models)
        except StaleError:
            former = self.number
            saved = store.save(None, 0, transcript, 0, self.models)
            self._on_notice(
                f"Chat {former} was changed or removed elsewhere; "
                f"this one is saved as {saved[0]} from now on."
            )
        (self.number, self._revision), self._saved = saved, transcript

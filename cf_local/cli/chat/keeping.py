"""What the models have read of a chat outlives it, so that taking it up again is fast."""

from pathlib import Path

from cf_local.chats.transcript import Transcript
from cf_local.cli.chat.engine import Engine
from cf_local.runtime.conversation import without_oldest
from cf_local.statecache import owner_of, restore_states, save_states
from cf_local.types import Chat, Message

_NEXT = Message("user", "?")  # the next question, whatever it will be


class Keeping:
    """Keeps and restores what the engine has read of saved chats; the view hears nothing of it."""

    def __init__(self, engine: Engine, database: Path | None) -> None:
        """``database`` is where chats are saved; without one nothing is kept."""
        self._engine = engine
        self._database = database
        self._settled = Transcript()

    def keep(
        self, number: int | None, transcript: Transcript, thinks: bool | None, n_dropped: int
    ) -> None:
        """Keep what was read of a chat, unless it is as it was restored or kept.

        ``n_dropped`` of its turns the models were not told any more.
        """
        if self._database is None or number is None or transcript == self._settled:
            return
        self._settled = transcript
        interrupt = self._engine.interrupt
        interrupt.clear()  # a Ctrl-C from now on means: leave it
        save_states(
            self._engine.fusion,
            _prompt(transcript, thinks, n_dropped),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )

    def restore(self, number: int | None, transcript: Transcript, thinks: bool | None) -> None:
        """Take up what was kept of a chat, or of another one that begins as it does."""
        self._settled = transcript
        if self._database is None or number is None or not transcript.turns:
            return
        interrupt = self._engine.interrupt
        interrupt.clear()
        restore_states(
            self._engine.fusion,
            _prompt(transcript, thinks, 0),
            owner_of(self._database, number),
            is_cancelled=interrupt.is_set,
        )


def _prompt(transcript: Transcript, thinks: bool | None, n_dropped: int) -> Chat:
    """What the models will be told of a chat when it goes on."""
    asked = without_oldest([*transcript.messages(), _NEXT], n_dropped)
    return Chat(tuple(asked), thinks)

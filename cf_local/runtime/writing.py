"""What an answer needs while it is written: the plan that a stream carries out in some seat."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cf_local.errors import Cancelled
from cf_local.method.overlap import Crew
from cf_local.method.session import Source
from cf_local.method.writer import Writer, chosen_at_first
from cf_local.progress import IsCancelled
from cf_local.runtime.stream import Pieces
from cf_local.settings import Settings
from cf_local.types import Answer, Prompt


@dataclass(slots=True)
class Writing:
    """One answer to write; ``sources`` are asked for by the seat.

    ``answered`` is called when it came to its end.
    """

    prompt: Prompt
    settings: Settings
    begun: bytes
    sources: Callable[[int], tuple[Source, ...]]
    crew: Crew
    answered: Callable[[], None]
    is_cancelled: IsCancelled
    _writer: Writer | None = field(default=None, init=False)

    def fits(self, seat: int) -> int:
        """Tokens of the prompt that the seat's sources have read, if it goes on with theirs."""
        return sum(source.continues(self.prompt) for source in self.sources(seat))

    def pieces(self, seat: int) -> Pieces:
        """Write in this seat, and leave it without drafts whatever happens."""
        self._writer = writer = Writer(
            self.sources(seat), self.settings, self.is_cancelled, self.crew
        )
        try:
            yield from writer.beginning(self.prompt, self.begun)
            yield from writer.writing()
            self.answered()
        except Cancelled:
            writer.finish_reason = "cancelled"
        finally:
            writer.rollback()
        yield writer.answer()

    def cut_short(self) -> Answer:
        """The answer as it stands, cancelled."""
        if self._writer is not None:
            self._writer.finish_reason = "cancelled"
            return self._writer.answer()
        infos = tuple(source.info for source in self.sources(0))
        return Answer(
            text="",
            finish_reason="cancelled",
            mode=self.settings.mode,
            chosen=chosen_at_first(self.settings, infos[0].name),
            passes={info.name: 0 for info in infos},
            prompt_s=0.0,
            prompt_tokens={},
            elapsed_s=0.0,
            decode_s=0.0,
            sources=infos,
        )


@dataclass(slots=True)
class Exclusive:
    """Work of another kind with the sources of a seat: one piece, whose result is kept."""

    work: Callable[[], None]
    is_done: bool = False

    def fits(self, seat: int) -> int:
        """It has no prompt."""
        return 0

    def pieces(self, seat: int) -> Pieces:
        """Do it; there is nothing to yield."""
        self.work()
        self.is_done = True
        yield from ()

    def cut_short(self) -> Answer:
        """It cannot be."""
        raise Cancelled("Cancelled.")

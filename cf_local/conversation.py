"""A conversation: its turns, and what of them fits the sources' contexts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cf_local.errors import ContextError
from cf_local.fusion import Fusion
from cf_local.source import Progress
from cf_local.types import Chat, Event, Message, Settings, Step

RESERVE_TOKENS = 128
"""Context that older turns must leave for the answer."""


class Conversation:
    """Turns of one chat. A turn that fails changes nothing; one that is stopped keeps what came."""

    def __init__(self, system: str | None = None, *, thinks: bool | None = None) -> None:
        """Begin with ``system`` text; ``thinks`` is that of ``types.Chat``."""
        self._thinks = thinks
        self.messages: list[Message] = [Message("system", system)] if system else []

    def stream(
        self,
        fusion: Fusion,
        question: str,
        settings: Settings | None = None,
        *,
        on_dropped: Callable[[int], None] = lambda _n_turns: None,
        on_progress: Progress | None = None,
    ) -> Iterator[Event]:
        """Ask, and note question and answer once the answer ended or was stopped.

        When the conversation outgrows the context its oldest turns are left out of the prompt,
        never system text or this question; ``on_dropped`` hears how many. ``on_progress`` hears the
        evaluated share of the prompt (0 to 1). Raises ContextError when even the question alone
        does not fit.
        """
        asked = [*self.messages, Message("user", question)]
        prompt = Chat(tuple(asked), self._thinks)
        settings = settings or fusion.settings
        events = _first_that_fits(fusion, prompt, settings, on_dropped, on_progress)
        shown = ""
        try:
            for event in events:
                if isinstance(event, Step):
                    shown = event.text if event.whole else shown + event.text
                yield event
        except Exception:
            shown = ""  # a turn that failed leaves no trace
            raise
        finally:  # also when the reader stops reading: what was shown stays
            if shown:
                self.messages = [*asked, Message("assistant", shown)]


def _first_that_fits(
    fusion: Fusion,
    prompt: Chat,
    settings: Settings,
    on_dropped: Callable[[int], None],
    on_progress: Progress | None,
) -> Iterator[Event]:
    """The events of the longest end of the conversation that fits."""
    n_dropped = 0
    while True:
        kept = without_oldest(prompt.messages, n_dropped)
        shortest = kept == without_oldest(prompt.messages, n_dropped + 1)
        reserve = 1 if shortest else min(RESERVE_TOKENS, settings.max_tokens)
        events = fusion.stream(
            replace(prompt, messages=tuple(kept)),
            replace(settings, reserve_tokens=reserve),
            on_progress=on_progress,
        )
        try:
            first = next(events)
        except ContextError:
            if shortest:
                raise
            n_dropped += 1
            continue
        if n_dropped:
            on_dropped(n_dropped)
        yield first
        yield from events
        return


def without_oldest(messages: Sequence[Message], n_turns: int) -> list[Message]:
    """``messages`` without the first ``n_turns`` exchanges; system text and the last turn stay."""
    system = [m for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    while n_turns > 0 and len(turns) > 1:
        turns = turns[1:]
        while len(turns) > 1 and turns[0].role != "user":
            turns = turns[1:]
        n_turns -= 1
    return [*system, *turns]

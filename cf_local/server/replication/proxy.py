"""A fusion with replicas on a cluster: what represents it in the server.

It has what the server needs from a Fusion. What is known when the replicas have loaded is answered
here; everything else is asked of a replica. Methods that wait for one are for threads, the others
for the event loop.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from cf_local.errors import Cancelled, CfLocalError, ClusterError
from cf_local.evaluation.likelihood import Token
from cf_local.progress import AsyncClosing, Closing
from cf_local.runtime.fusion import speakers_of
from cf_local.server.replication.replica import Figures, Loaded
from cf_local.settings import Settings
from cf_local.types import Chat, Event, Infill, Prompt, RawText, SourceInfo, Tokens

_CALL_S = 60.0  # for what a replica knows without a pass
_FIGURES_S = 2.0
_BEGINNING = 512  # characters of a text by which its conversation is known


class ReplicatedSource:
    """A source, loaded in each replica. Its methods wait; call them in a thread."""

    def __init__(self, info: SourceInfo, handle: Any) -> None:
        self.info = info
        self._handle = handle

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """As in OwnTokens."""
        found: tuple[str | None, str | None] = self._ask("bounds")
        return found

    def n_tokens(self, text: str) -> int:
        """As in Source."""
        return int(self._ask("n_tokens", text))

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """As in OwnTokens."""
        found: list[int] = self._ask("tokenize", text, adds_bos=adds_bos)
        return found

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """As in OwnTokens."""
        return bytes(self._ask("detokenize", tokens))

    def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        call = self._handle.ask_source.remote(self.info.name, method, *arguments, **named)
        return _result(call)


class ReplicatedFusion(Closing):
    """A fusion with replicas: what the server needs from a Fusion."""

    def __init__(
        self,
        name: str,
        handle: Any,
        loaded: Loaded,
        on_close: Callable[[], None],
    ) -> None:
        """``handle`` is Ray Serve's for the deployment."""
        self.name, self.settings = name, loaded.settings
        self.sources = tuple(ReplicatedSource(info, handle) for info in loaded.infos)
        self._handle, self._loaded, self._on_close = handle, loaded, on_close

    def of(self, names: Sequence[str], settings: Settings) -> "ReplicatedFusion":
        """Some of the sources as their own fusion, on the same replicas."""
        infos = {info.name: info for info in self._loaded.infos}
        part = Loaded(tuple(infos[name] for name in names), settings, ())
        return ReplicatedFusion(self.name, self._handle, part, lambda: None)

    def speakers(self, settings: Settings) -> tuple[ReplicatedSource, ...]:
        """As in Fusion."""
        return speakers_of(self.sources, settings)

    def stream(self, prompt: Prompt, settings: Settings) -> "ReplicatedStream":
        """As in Fusion; the replica that has read most of the prompt answers, if it has a slot."""
        handle = self._handle.options(stream=True, multiplexed_model_id=conversation_of(prompt))
        return ReplicatedStream(lambda: handle.answer.remote(self._names, prompt, settings))

    def n_prompt_tokens(self, prompt: Prompt, settings: Settings) -> dict[str, int]:
        """As in Fusion; waits."""
        found: dict[str, int] = _result(
            self._handle.n_prompt_tokens.remote(self._names, prompt, settings)
        )
        return found

    async def tokens(self, prompt: Prompt, settings: Settings, n_likely: int) -> list[Token]:
        """Like ``Judge.tokens``; cancelling it ends the work."""
        call = self._handle.tokens.remote(self._names, prompt, settings, n_likely)
        try:
            found: list[Token] = await call
        except asyncio.CancelledError:
            call.cancel()
            raise
        except Exception as error:
            raise _raised(error) from error
        return found

    def figures(self) -> list[Figures]:
        """Those of the replicas that reply soon; waits."""
        try:
            found = self._handle.broadcast("figures").results(
                timeout_s=_FIGURES_S, return_exceptions=True
            )
        except Exception:  # noqa: BLE001 - figures are not worth an error
            return []
        return [each for each in found if isinstance(each, Figures)]

    def close(self) -> None:
        """End the replicas; a part ends none."""
        self._on_close()

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(source.info.name for source in self.sources)


class ReplicatedStream(AsyncClosing):
    """The events of an answer that a replica writes; nothing is asked before the first is read."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._response: Any = None
        self._is_over = False

    def __aiter__(self) -> "ReplicatedStream":
        return self

    async def __anext__(self) -> Event:
        if self._is_over:
            raise StopAsyncIteration
        try:
            if self._response is None:
                self._response = self._start()
            event: Event = await anext(self._response)
        except StopAsyncIteration:
            self._is_over = True
            raise
        except asyncio.CancelledError:
            self.close()
            raise
        except Exception as error:
            self._is_over = True
            raise _raised(error) from error
        return event

    def close(self) -> None:
        """End the answer, if it is still being written. May be called twice."""
        if not self._is_over and self._response is not None:
            self._response.cancel()
        self._is_over = True


def conversation_of(prompt: Prompt) -> str:
    """What stays the same in all turns of a conversation: its beginning, as a short text."""
    match prompt:
        case Chat():
            users = [i for i, turn in enumerate(prompt.messages) if turn.role == "user"]
            first = prompt.messages[: users[0] + 1 if users else 1]
            beginning = repr([(turn.role, turn.content) for turn in first])
        case RawText():
            beginning = prompt.text[:_BEGINNING]
        case Infill():
            beginning = prompt.prefix[:_BEGINNING]
        case Tokens():
            beginning = repr(prompt.ids[:_BEGINNING])
    return hashlib.sha256(beginning.encode(errors="replace")).hexdigest()[:32]


def _result(call: Any) -> Any:
    try:
        return call.result(timeout_s=_CALL_S)
    except Exception as error:
        raise _raised(error) from error


def _raised(error: Exception) -> CfLocalError:
    """The error of a call as it is without Ray."""
    cause = getattr(error, "cause", error)
    if isinstance(cause, CfLocalError):
        return cause
    if isinstance(error, asyncio.CancelledError) or "Cancelled" in type(error).__name__:
        return Cancelled("Cancelled.")
    return ClusterError(
        f"A replica has died, or cannot be reached ({type(error).__name__}). Send the request "
        "again."
    )

"""The actor that holds a source on a node of the cluster.

Ray starts a process for it. One of its threads loads and computes; others meanwhile report whether
it is alive and how far a load is, and count tokens. It ends with the program that created it.
"""

import threading
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

from cf_local.cluster.connection import library, name_of
from cf_local.cluster.hosted import HostedSession
from cf_local.cluster.messages import PROTOCOL, Message, Opened, Reply, Where
from cf_local.errors import ClosedError
from cf_local.method.session import OwnTokens, Source
from cf_local.progress import IsCancelled, Progress

CONTROL = "control"
"""The threads that answer while the source computes."""
_TEXTS = {"n_tokens", "n_prompt_tokens", "joins", "tokenize", "detokenize"}


class Hostable(Source, OwnTokens, Protocol):
    """A source that an actor can hold."""


class Opener(Protocol):
    """Loads a source on a node. It is sent there by its module and name."""

    def __call__(self, is_cancelled: IsCancelled, on_progress: Progress) -> Hostable:
        """The loaded source. Raises what a load raises."""

    def fingerprint(self) -> str | None:
        """Identifies the content of the file that was loaded; None if there is none."""


class SourceActor:
    """Holds one source. Errors are returned, not raised: they are for users, without traces."""

    def __init__(self) -> None:
        self._source: Hostable | None = None
        self._sessions: list[HostedSession] = []
        self._share = 0.0
        self._is_stopped = threading.Event()

    def where(self) -> Where:
        """The node it runs on."""
        ray = library()
        context = ray.get_runtime_context()
        node_id = context.get_node_id()
        node = next(node for node in ray.nodes() if node["NodeID"] == node_id)
        return Where(node_id, name_of(node), node["NodeManagerAddress"], PROTOCOL, version())

    def open(self, opener: Opener) -> Opened | Exception:
        """Load the source, with all its sessions, in place of one that it held."""
        self.close()
        self._share = 0.0
        self._is_stopped.clear()

        def report(share: float) -> None:
            self._share = share

        try:
            source = opener(self._is_stopped.is_set, report)
            fingerprint = opener.fingerprint()
        except Exception as error:  # noqa: BLE001 - raised on the other side
            return error
        self._source = source
        self._sessions = [HostedSession(session) for session in source.sessions]
        return Opened(
            info=source.info,
            costs=source.costs,
            states=tuple(session.state for session in self._sessions),
            looks_ahead=source.sessions[0].lookahead is not None,
            has_template=bool(getattr(source, "has_template", True)),
            bounds=source.bounds,
            fingerprint=fingerprint,
        )

    def apply(self, index: int, message: Message) -> Reply:
        """Do the calls of a message in the session of that index."""
        return self._sessions[index].apply(message)

    def close(self) -> None:
        """Free the memory."""
        if self._source is not None:
            self._source.close()

    # Called in the threads CONTROL.

    def share(self) -> float:
        """How much is loaded (0 to 1); an answer also says that it is alive."""
        return self._share

    def stop_loading(self) -> None:
        """Give up the load."""
        self._is_stopped.set()

    def cancel(self, index: int, number: int) -> None:
        """Stop what a session does for the message of that number."""
        self._sessions[index].cancel(number)

    def of_texts(self, name: str, args: tuple[Any, ...], how: dict[str, Any]) -> Any:
        """What the source says of a text without a pass, or an error."""
        try:
            if self._source is None:
                raise ClosedError("The source is not loaded.")
            assert name in _TEXTS
            does: Callable[..., Any] = getattr(self._source, name)
            return does(*args, **how)
        except Exception as error:  # noqa: BLE001 - raised on the other side
            return error


def version() -> str:
    """The version of cf-local that is installed here."""
    try:
        return metadata.version("cf-local")
    except metadata.PackageNotFoundError:
        return "unknown"

"""How the server is set up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of ``cf-local serve``, and limits that it does not expose."""

    host: str = "127.0.0.1"
    port: int = 8642
    api_key: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    n_slots: int = 4
    """Answers written at once with each set of models."""
    n_queue: int = 64
    """Requests that may wait for a slot of each set of models."""
    idle_s: float = 600.0
    """Unload models that are unused for this long; 0 keeps them loaded."""
    timeout_s: float = 600.0
    """Time limit of a request in its slot."""
    body_s: float = 30.0
    """Time limit for the arrival of a body."""
    body_bytes: int = 1_048_576
    send_s: float = 30.0
    """How long a client may leave sent data unread."""
    shutdown_s: float = 30.0
    """How long to wait for running answers at shutdown."""
    first_s: float = 10.0
    """A stream starts after this time even without a segment."""
    alive_s: float = 10.0
    """A stream is never silent for longer than this."""
    logs_prompts: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    """More names of models."""
    answers_any: bool = False
    """Answer an unknown model with the default one."""
    is_strict: bool = False
    """Refuse requests with unknown parameters instead of ignoring these."""

    cluster: str | None = None
    """The Ray cluster that has replicas of the models; None loads them in this process."""
    n_min_replicas: int = 1
    n_max_replicas: int | None = None
    """The most replicas of each model; None for as many as the cluster has room for."""

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in LOOPBACK

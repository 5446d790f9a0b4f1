"""How the server is set up."""

from dataclasses import dataclass, field

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``cf-local serve`` was told.

    ``n_slots`` answers are written at once with each set of models, ``n_queue`` requests wait;
    ``idle_s`` 0 keeps models loaded. ``timeout_s`` limits an answer, ``body_s`` the arrival of a
    body, ``send_s`` how long a client may leave what was sent unread, ``shutdown_s`` how long
    running answers are waited for at the end. ``first_s`` and ``alive_s``: a stream begins after
    ``first_s`` even without a segment, and is never silent for longer than ``alive_s``.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    api_key: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    n_slots: int = 4
    n_queue: int = 64
    idle_s: float = 600.0
    timeout_s: float = 600.0
    body_s: float = 30.0
    body_bytes: int = 1_048_576
    send_s: float = 30.0
    shutdown_s: float = 30.0
    first_s: float = 10.0
    alive_s: float = 10.0
    logs_prompts: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return self.host in LOOPBACK

"""Responses that clients can go on from or fetch: in memory, the oldest are forgotten first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from cf_local.types import Chat, Message, text_of

MOST_KEPT = 1000
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """The body of a response, and the conversation up to its end."""

    body: Mapping[str, Any]
    messages: tuple[Message, ...]

    @property
    def n_bytes(self) -> int:
        """About how much memory it takes, as if it shared none with others."""
        texts = len(text_of(Chat(self.messages))) + len(json.dumps(self.body))
        return texts + 500 * len(self.messages)


class Kept:
    """The responses of one server. Any thread may use it."""

    def __init__(self, n_most: int = MOST_KEPT, n_most_bytes: int = MOST_BYTES) -> None:
        self._n_most, self._n_most_bytes = n_most, n_most_bytes
        self._found: dict[str, tuple[KeptResponse, int]] = {}
        self._n_bytes = 0
        self._lock = Lock()

    def keep(self, body: Mapping[str, Any], messages: Sequence[Message]) -> None:
        """Keep a response under its id, and forget the oldest where there are too many."""
        kept = KeptResponse(body, tuple(messages))
        n_bytes = kept.n_bytes
        with self._lock:
            self._found[body["id"]] = kept, n_bytes
            self._n_bytes += n_bytes
            while len(self._found) > self._n_most or self._n_bytes > self._n_most_bytes:
                _, n_freed = self._found.pop(next(iter(self._found)))
                self._n_bytes -= n_freed

    def get(self, id: str) -> KeptResponse | None:
        """The response of that id; None if there is none, or none any more."""
        with self._lock:
            found = self._found.get(id)
        return found[0] if found else None

    def forget(self, id: str) -> bool:
        """Forget the response of that id; False if there is none."""
        with self._lock:
            found = self._found.pop(id, None)
            self._n_bytes -= found[1] if found else 0
        return found is not None

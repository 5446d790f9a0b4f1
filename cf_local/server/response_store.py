"""Responses that clients can continue or fetch: in memory, the oldest are deleted first."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from cf_local.types import Chat, Message, text_of

MOST_RESPONSES = 1000
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The body of a response, and the conversation up to its end."""

    body: Mapping[str, Any]
    messages: tuple[Message, ...]

    @property
    def n_bytes(self) -> int:
        """About how much memory it takes, as if it shared none with others."""
        texts = len(text_of(Chat(self.messages))) + len(json.dumps(self.body))
        return texts + 500 * len(self.messages)


class ResponseStore:
    """The responses of one server. Any thread may use it."""

    def __init__(self, n_most: int = MOST_RESPONSES, n_most_bytes: int = MOST_BYTES) -> None:
        self._n_most, self._n_most_bytes = n_most, n_most_bytes
        self._stored: dict[str, tuple[StoredResponse, int]] = {}
        self._n_bytes = 0
        self._lock = Lock()

    def add(self, body: Mapping[str, Any], messages: Sequence[Message]) -> None:
        """Store a response under its id, and delete the oldest where there are too many."""
        stored = StoredResponse(body, tuple(messages))
        n_bytes = stored.n_bytes
        with self._lock:
            self._stored[body["id"]] = stored, n_bytes
            self._n_bytes += n_bytes
            while len(self._stored) > self._n_most or self._n_bytes > self._n_most_bytes:
                _, n_freed = self._stored.pop(next(iter(self._stored)))
                self._n_bytes -= n_freed

    def get(self, id: str) -> StoredResponse | None:
        """The response of that id; None if there is none."""
        with self._lock:
            found = self._stored.get(id)
        return found[0] if found else None

    def delete(self, id: str) -> bool:
        """Delete the response of that id; False if there is none."""
        with self._lock:
            found = self._stored.pop(id, None)
            self._n_bytes -= found[1] if found else 0
        return found is not None

"""The dialects of the interface: each is a thin translation to and from what they all share.

A file per dialect has the models of its requests and responses, and an object ``Dialect``.
"""

from cf_local.server.dialects import chat, completions, messages, ollama, responses
from cf_local.server.dialects.dialect import Dialect
from cf_local.server.response_store import ResponseStore


def dialects(store: ResponseStore) -> list[Dialect]:
    """The dialects of one server, which keeps responses in ``store``."""
    return [
        chat.DIALECT,
        completions.DIALECT,
        responses.dialect(store),
        messages.DIALECT,
        ollama.CHAT,
        ollama.GENERATE,
    ]

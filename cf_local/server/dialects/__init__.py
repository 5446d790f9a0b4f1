"""The dialects of the interface: each is a thin translation to and from what they all share.

A file per dialect has the models of its requests and responses, and an object ``Dialect``.
"""

from cf_local.server.dialects import chat, completions, messages, ollama
from cf_local.server.dialects.dialect import Dialect
from cf_local.server.dialects.responses import Responses
from cf_local.server.kept import Kept


def dialects(kept: Kept) -> list[Dialect]:
    """The dialects of one server, which keeps responses in ``kept``."""
    return [
        chat.DIALECT,
        completions.DIALECT,
        Responses(kept).dialect,
        messages.DIALECT,
        ollama.CHAT,
        ollama.GENERATE,
    ]

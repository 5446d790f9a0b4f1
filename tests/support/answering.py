"""What scripted models say to a server: talk and calls of two tools."""

from __future__ import annotations

from scripted import VOCABULARIES

from cf_local.progress import IsCancelled, Progress
from cf_local.runtime.fusion import Fusion
from cf_local.server.catalogue import ServedModel
from cf_local.server.pool import Load
from cf_local.settings import Settings
from cf_local.testing import ScriptedSource, writes

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
MUL = {"type": "function", "function": {"name": "mul", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
SUM = '{"a": 2, "b": 3}'
TWO_CALLS = f"Let me see.\n{CALL.format('add', SUM)}\n{CALL.format('mul', '{}')}"


def says(text: str, *, opens: bool = False, n_ctx: int = 4096) -> Load:
    """Loads sources that write ``text``; ``opens``: their template opens thinking."""

    def load(model: ServedModel, _is_cancelled: IsCancelled, _on_progress: Progress) -> Fusion:
        pieces = VOCABULARIES[2]
        sources = [
            ScriptedSource(
                name,
                pieces,
                writes(text, pieces),
                n_ctx=n_ctx,
                n_sessions=4,
                obeys=lambda *_: True,
            )
            for name in model.names
        ]
        for source in sources:
            object.__setattr__(source.info, "opens_thinking", {None: "<think>"} if opens else {})
        return Fusion(sources, Settings(speculation=False))

    return load

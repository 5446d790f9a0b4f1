"""Fuse several local GGUF language models word by word (Cool-Fusion), without training.

>>> import cf_local
>>> with cf_local.load() as fusion:
...     for event in fusion.stream(cf_local.chat("Tom has 23 apples and buys 14. How many now?")):
...         ...

Importing this package loads no native library; ``load`` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cf_local.errors import (
    BrokenModelError,
    Cancelled,
    CfLocalError,
    ClosedError,
    ClusterError,
    ConfigError,
    ContextError,
    InputError,
    MissingModelError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.settings import Sampling, Settings
from cf_local.structured import ResponseFormat
from cf_local.structured.calls import CallSplitter, calls_of
from cf_local.structured.tools import Tool, ToolCall
from cf_local.types import (
    Answer,
    Chat,
    Event,
    Infill,
    Message,
    Mode,
    RawText,
    Step,
    Tokens,
    chat,
)

if TYPE_CHECKING:
    from cf_local.loading.embedder import Embedder, load_embedder
    from cf_local.loading.load import load
    from cf_local.loading.load_options import LoadOptions
    from cf_local.runtime.conversation import Conversation
    from cf_local.runtime.fusion import Fusion
    from cf_local.runtime.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BrokenModelError",
    "CallSplitter",
    "Cancelled",
    "CfLocalError",
    "Chat",
    "ClosedError",
    "ClusterError",
    "ConfigError",
    "ContextError",
    "Conversation",
    "Embedder",
    "Event",
    "Fusion",
    "Infill",
    "InputError",
    "LoadOptions",
    "Message",
    "MissingModelError",
    "Mode",
    "OutOfMemoryError",
    "RawText",
    "ResponseFormat",
    "Sampling",
    "Settings",
    "Step",
    "Stream",
    "Tokens",
    "Tool",
    "ToolCall",
    "UnsupportedModelError",
    "__version__",
    "calls_of",
    "chat",
    "load",
    "load_embedder",
]


_LAZY = {
    "Conversation": "cf_local.runtime.conversation",
    "Embedder": "cf_local.loading.embedder",
    "Fusion": "cf_local.runtime.fusion",
    "LoadOptions": "cf_local.loading.load_options",
    "Stream": "cf_local.runtime.stream",
    "load": "cf_local.loading.load",
    "load_embedder": "cf_local.loading.embedder",
}


def __getattr__(name: str) -> Any:
    """Modules that import numpy or the native library are imported on first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The parameters of a request: one table each for chat and completions, as JSON schemas.

``validation`` checks requests against them, and the OpenAPI description shows them. There are three
kinds: parameters that take effect, parameters that are accepted but ignored, and parameters that a
fusion does not support, which are accepted only with values that request nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

from cf_local.settings import OPTIONS, Option

Schema = dict[str, Any]

MOST_CHOICES = 16
"""The most answers of one request: prompts times ``n``."""
_MOST_STOPS = 16
_MOST_MESSAGES = 4096
_MOST_LOGPROBS = 20


def _maybe(schema: Schema) -> Schema:
    """The schema, or null, which means the same as no value."""
    kind = schema["type"]
    kinds = kind if isinstance(kind, list) else [kind]
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [*kinds, "null"]} | more


def _text(**more: Any) -> Schema:
    return {"type": "string", **more}


def _whole(minimum: int | None = None, maximum: int | None = None) -> Schema:
    bounds = {"minimum": minimum, "maximum": maximum}
    return _maybe({"type": "integer", **{k: v for k, v in bounds.items() if v is not None}})


def _number(minimum: float, maximum: float) -> Schema:
    return _maybe({"type": "number", "minimum": minimum, "maximum": maximum})


def _choice(names: tuple[str, ...]) -> Schema:
    return _maybe(_text(enum=list(names)))


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _open(properties: Mapping[str, Schema], *required: str) -> Schema:
    """An object that may have more fields, which are ignored."""
    return _object(properties, *required) | {"additionalProperties": True}


_FLAG = _maybe({"type": "boolean"})
_ANY: Schema = {}
_NULL: Schema = {"type": "null"}
_NO_LIST = _maybe({"type": "array", "maxItems": 0})
_NO_OBJECT = _maybe({"type": "object", "maxProperties": 0})
_ZERO = _maybe({"type": "number", "minimum": 0, "maximum": 0})
_NO = _maybe({"type": "boolean", "enum": [False]})

_TEXT_PARTS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": _open({"type": _text(enum=["text"]), "text": _text()}, "type", "text"),
}
_REPLY_PARTS: Schema = {
    "type": "array",
    "items": {
        "anyOf": [
            _TEXT_PARTS["items"],
            _open({"type": _text(enum=["refusal"]), "refusal": _text()}, "type", "refusal"),
        ]
    },
}
# Clients send back what they keep with a message: only content that cannot be read is refused.
_UNREADABLE = {
    "images": _NO_LIST,
    "audio": _NULL,
    "function_call": _NULL,
    "tool_calls": _NO_LIST,
}
_TURN = _open(
    {
        "role": _text(enum=["system", "developer", "user"]),
        "content": {"anyOf": [_text(), _TEXT_PARTS]},
        **_UNREADABLE,
    },
    "role",
    "content",
)
_REPLY = _open(
    {
        "role": _text(enum=["assistant"]),
        "content": {"anyOf": [_text(), _REPLY_PARTS, _NULL]},
        "refusal": _maybe(_text()),
        **_UNREADABLE,
    },
    "role",
)

_JSON_SCHEMA = _object(
    {
        "name": _maybe(_text()),
        "description": _maybe(_text()),
        "schema": {"type": "object"},
        "strict": _FLAG,
    },
    "schema",
)
RESPONSE_FORMAT: Schema = {
    "anyOf": [
        _object({"type": _text(enum=["text"])}, "type"),
        _object({"type": _text(enum=["json_object"]), "schema": {"type": "object"}}, "type"),
        _object({"type": _text(enum=["json_schema"]), "json_schema": _JSON_SCHEMA},
                "type", "json_schema"),
        _object({"type": _text(enum=["grammar"]), "grammar": _text()}, "type", "grammar"),
        _NULL,
    ]
}  # fmt: skip


def _setting(option: Option) -> Schema:
    """The schema for a row of the settings table."""
    if option.kind == "choice":
        return _choice(option.choices)
    if option.kind == "switch":
        return _FLAG
    if option.kind == "source":
        return _maybe(_text())
    if option.kind == "weights":
        weight = {"type": "number", "minimum": 0, "maximum": 1e6}
        named = {"type": "object", "additionalProperties": weight}
        return {"anyOf": [_choice(option.choices), named, _NULL]}
    bounds = [bound for bound in (option.low, option.high) if math.isfinite(bound)]
    return _whole(*map(int, bounds)) if option.kind == "whole" else _number(*bounds)


_OF_OPENAI = ("max_tokens", "temperature", "top_p", "seed", "stop")
EXTENSION = _object(
    {
        "trace": _FLAG,
        **{
            name: {**_setting(option), "description": option.help}
            for name, option in OPTIONS.items()
            if name not in _OF_OPENAI
        },
    }
)
"""The field ``cf_local``: settings that OpenAI's interface lacks."""

NO_LIMIT = -1
"""The ``max_tokens`` that other local servers take for an answer as long as the context allows."""
_LIMIT: Schema = {"anyOf": [_whole(1), _whole(NO_LIMIT, NO_LIMIT)]}

_COMMON: Mapping[str, Schema] = {
    "model": _text(minLength=1),
    "max_tokens": _LIMIT,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "n": _whole(1, MOST_CHOICES),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": {
        "anyOf": [
            _text(),
            {"type": "array", "maxItems": _MOST_STOPS, "items": _text()},
            _NULL,
        ]
    },
    "stream": _FLAG,
    "stream_options": _maybe(_object({"include_usage": _FLAG, "include_obfuscation": _NO})),
    "response_format": RESPONSE_FORMAT,
    "grammar": _maybe(_text(minLength=1)),
    "cf_local": _maybe(EXTENSION),
    "user": _maybe(_text()),
}
_CHAT: Mapping[str, Schema] = {
    "messages": {
        "type": "array",
        "minItems": 1,
        "maxItems": _MOST_MESSAGES,
        "items": {"anyOf": [_TURN, _REPLY]},
    },
    "max_completion_tokens": _LIMIT,
    "logprobs": _FLAG,
    "top_logprobs": _whole(0, _MOST_LOGPROBS),
    "chat_template_kwargs": _maybe(_open({"enable_thinking": _FLAG})),
}
_COMPLETION: Mapping[str, Schema] = {
    "prompt": {
        "anyOf": [
            _text(minLength=1),
            {"type": "array", "minItems": 1, "maxItems": MOST_CHOICES, "items": _text(minLength=1)},
        ]
    },
    "logprobs": _whole(0, _MOST_LOGPROBS),
}
_IGNORED: Mapping[str, Schema] = {
    **dict.fromkeys(
        ("metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention"), _ANY
    ),
    **dict.fromkeys(
        ("reasoning_effort", "safety_identifier", "service_tier", "store", "verbosity"), _ANY
    ),
}
PENALTIES: Mapping[str, Schema] = {"frequency_penalty": _ZERO, "presence_penalty": _ZERO}
"""Sampling fields of OpenAI's that change nothing here, with schemas of the neutral values."""
_REFUSED: Mapping[str, Schema] = {
    **PENALTIES,
    "logit_bias": _NO_OBJECT,
}
_REFUSED_CHAT: Mapping[str, Schema] = {
    "tools": _NO_LIST,
    "tool_choice": _maybe(_text(enum=["none", "auto"])),
    "functions": _NO_LIST,
    "function_call": _maybe(_text(enum=["none", "auto"])),
    "modalities": _maybe({"type": "array", "items": _text(enum=["text"]), "minItems": 1}),
    "audio": _NULL,
    "prediction": _NULL,
    "web_search_options": _NULL,
}
_REFUSED_COMPLETION: Mapping[str, Schema] = {
    "best_of": _whole(1, 1),
    "echo": _NO,
    "suffix": _maybe(_text(maxLength=0)),
}

CHAT = _object({**_COMMON, **_CHAT, **_IGNORED, **_REFUSED, **_REFUSED_CHAT}, "model", "messages")
"""The body of a chat request."""
COMPLETION = _object(
    {**_COMMON, **_COMPLETION, **_IGNORED, **_REFUSED, **_REFUSED_COMPLETION},
    "model",
    "prompt",
)
"""The body of a completion request."""
REFUSED: Mapping[str, Schema] = {**_REFUSED, **_REFUSED_CHAT, **_REFUSED_COMPLETION}
"""What a fusion does not support, with schemas of the values that request nothing."""

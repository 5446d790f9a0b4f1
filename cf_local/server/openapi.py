"""The OpenAPI description, made from the tables that requests are checked against."""

from collections.abc import Mapping
from typing import Any

from cf_local import __version__
from cf_local.server.parameters import CHAT, COMPLETION

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_STATUS = {
    "400": "The request cannot be used; `param` says which part of it.",
    "401": "The API key is missing or wrong.",
    "403": "The server does not accept this Host or Origin header.",
    "404": "There is no such model, or its files are not on the server's machine.",
    "408": "The body did not arrive in time.",
    "413": "The body is too long.",
    "415": "The body is not JSON.",
    "429": "Too many requests are waiting; `Retry-After` says when to try again.",
    "500": "The server failed.",
    "503": "The model cannot be loaded, or the server is shutting down.",
    "504": "The answer took too long.",
}


def _object(properties: Mapping[str, Schema], *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_ERROR = _object(
    {
        "error": _object(
            {"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL}
        )
    }
)
_MODEL = _object(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": _COUNT,
        "owned_by": _TEXT,
        "cf_local": _object(
            {
                "kind": {"enum": ["fusion", "source"]},
                "description": _TEXT_OR_NULL,
                "modes": _list(_TEXT),
                "sources": _list(_TEXT),
                "default": {"type": "boolean"},
                "loaded": {"type": "boolean"},
            }
        ),
    }
)
_USAGE = _object({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT}) | {
    "description": "Tokens of the first source that takes part."
}
_SEGMENT = _object(
    {
        "text": _TEXT,
        "whole": {"type": "boolean"},
        "ends": {"type": "boolean"},
        "agreed": {"type": "boolean"},
        "winners": _list(_TEXT),
        "asked": _list(_TEXT),
        "candidates": _list(
            _object(
                {
                    "text": _TEXT,
                    "ends": {"type": "boolean"},
                    "sources": _list(_TEXT),
                    "scores": {"type": "object", "additionalProperties": _NUMBER_OR_NULL},
                    "mean": _NUMBER_OR_NULL,
                    "won": {"type": "boolean"},
                }
            )
        ),
    }
)
_ANSWER = _object(
    {
        "finish_reason": {"enum": ["stop", "length", "repetition", "stuck", "cancelled"]},
        "agreement": _NUMBER_OR_NULL,
        "wins": {"type": "object", "additionalProperties": _COUNT},
        "segments": _COUNT,
        "seconds": {"type": "number"},
        "text": _TEXT,
        "chosen": _TEXT,
        "mode": _TEXT,
    }
)
_CHOICE = {
    "index": _COUNT,
    "logprobs": {"type": ["object", "null"]},
    "finish_reason": {"enum": ["stop", "length"]},
    "cf_local": _object({"segments": _list(_ref("Segment")), "answer": _ref("Answer")}),
}
_MESSAGE = _object({"role": {"const": "assistant"}, "content": _TEXT, "refusal": _TEXT_OR_NULL})


def _response(kind: str, choice: Schema) -> Schema:
    return _object(
        {
            "id": _TEXT,
            "object": {"const": kind},
            "created": _COUNT,
            "model": _TEXT,
            "system_fingerprint": _TEXT,
            "choices": _list(choice),
            "usage": _ref("Usage"),
        }
    )


_SCHEMAS: Mapping[str, Schema] = {
    "ChatRequest": CHAT,
    "CompletionRequest": COMPLETION,
    "ChatResponse": _response(
        "chat.completion", _object({**_CHOICE, "message": _MESSAGE}, "cf_local")
    ),
    "CompletionResponse": _response(
        "text_completion", _object({**_CHOICE, "text": _TEXT}, "cf_local")
    ),
    "Model": _MODEL,
    "Models": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Usage": _USAGE,
    "Segment": _SEGMENT,
    "Answer": _ANSWER,
    "Error": _ERROR,
    "Health": _object({"status": {"enum": ["ok", "shutting_down"]}, "version": _TEXT}),
}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _responses(content: Schema, summary: str, *statuses: str) -> Schema:
    errors = {
        status: {"description": _STATUS[status], "content": _json(_ref("Error"))}
        for status in (*statuses, "403", "500")
    }
    return {"200": {"description": summary, "content": content}, **errors}


def _get(summary: str, content: Schema, *statuses: str, needs_key: bool = True) -> Schema:
    more: Schema = {} if needs_key else {"security": []}
    key = ("401",) if needs_key else ()
    responses = _responses(content, "The result.", *statuses, *key)
    return {"get": {"summary": summary, "responses": responses, **more}}


def _post(summary: str, request: str, response: str) -> Schema:
    statuses = ("400", "401", "404", "408", "413", "415", "429", "503", "504")
    stream: Schema = {"text/event-stream": {}}  # OpenAPI 3.1 cannot describe the events
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _json(_ref(request))},
            "responses": _responses(
                {**_json(_ref(response)), **stream}, "The answer; a stream if requested.", *statuses
            ),
        }
    }


_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A fusion or source of /v1/models; `name:mode` selects a mode.",
    "schema": {"type": "string", "minLength": 1},
}


def description(*, needs_key: bool) -> Schema:
    """The whole document, in OpenAPI 3.1; with the API key if ``needs_key``."""
    scheme = {"key": {"type": "http", "scheme": "bearer"}}
    paths = {
        "/v1/models": _get("List the models.", _json(_ref("Models"))),
        "/v1/models/{id}": _get("Show one model.", _json(_ref("Model")), "400", "404")
        | {"parameters": [_ID]},
        "/v1/chat/completions": _post("Answer a conversation.", "ChatRequest", "ChatResponse"),
        "/v1/completions": _post("Continue a text.", "CompletionRequest", "CompletionResponse"),
        "/health": _get("Whether the server runs.", _json(_ref("Health")), needs_key=False),
        "/metrics": _get("Figures for Prometheus.", {"text/plain": {"schema": _TEXT}}),
        "/openapi.json": _get(
            "This document.", _json({"type": "object"}), needs_key=False
        ),
    }  # fmt: skip
    components: Schema = {"schemas": dict(_SCHEMAS)}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "cf-local",
            "version": __version__,
            "description": "OpenAI's interface to fusions of local models (Cool-Fusion).",
        },
        "paths": paths,
        "components": components,
    }
    if needs_key:
        components["securitySchemes"] = scheme
        document["security"] = [{"key": []}]
    return document

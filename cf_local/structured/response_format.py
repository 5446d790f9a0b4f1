"""The format that an answer must have, checked when it is created."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from cf_local.errors import InputError
from cf_local.structured.gbnf import check_grammar
from cf_local.structured.schema import JsonSchema, grammar_of
from cf_local.structured.tools import ToolForm

FormatKind = Literal["json_object", "json_schema", "grammar", "tools"]


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The format of an answer, as a GBNF ``grammar`` with the start symbol ``root``.

    Create it with ``json_object``, ``json_schema``, ``gbnf`` or ``openai``. Each raises InputError
    for a format that cannot be guaranteed: every complete answer obeys its format. ``tools_format``
    makes the format of an answer that may call the tools ``tool_names`` in the form ``tool_form``.
    """

    kind: FormatKind
    grammar: str
    tool_form: ToolForm | None = None
    tool_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_grammar(self.grammar)

    @classmethod
    def json_object(cls) -> Self:
        """Any JSON object."""
        return cls("json_object", grammar_of({"type": "object"}))

    @classmethod
    def json_schema(cls, schema: JsonSchema | str) -> Self:
        """JSON that obeys a schema; a ``str`` is the schema as JSON text."""
        parsed = _parsed(schema)
        try:
            return cls("json_schema", grammar_of(parsed))
        except InputError as error:
            raise InputError(f"The schema cannot be used. {str(error).rstrip('.')}.") from None

    @classmethod
    def gbnf(cls, grammar: str) -> Self:
        """Text that obeys a grammar in llama.cpp's notation."""
        return cls("grammar", grammar)

    @classmethod
    def openai(cls, response_format: Mapping[str, Any]) -> Self | None:
        """From the ``response_format`` of OpenAI's chat API; None for ``{"type": "text"}``.

        That is ``{"type": "json_object"}``, or ``{"type": "json_schema", "json_schema": {"schema":
        ...}}``; llama.cpp's ``{"type": "json_object", "schema": ...}`` is accepted, too.
        """
        kind = response_format.get("type")
        if kind == "text":
            return None
        if kind == "json_object":
            schema = response_format.get("schema")
            return cls.json_object() if schema is None else cls.json_schema(schema)
        if kind == "json_schema":
            wrapped = response_format.get("json_schema")
            if isinstance(wrapped, Mapping) and "schema" in wrapped:
                return cls.json_schema(wrapped["schema"])
            raise InputError('response_format: "json_schema" must contain a "schema".')
        raise InputError(
            f"response_format: type is {kind!r}; it must be text, json_object or json_schema."
        )


def _parsed(schema: JsonSchema | str) -> JsonSchema:
    if not isinstance(schema, str):
        return schema
    try:
        parsed: JsonSchema = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The schema is not JSON: {error}.") from None
    return parsed

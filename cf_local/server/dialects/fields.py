"""Fields that the requests of several dialects have; null means the same as no value.

Fields for settings are made from the rows of ``OPTIONS``.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError, ValidationError

from cf_local.errors import InputError
from cf_local.server.api_errors import invalid
from cf_local.settings import OPTIONS, Option
from cf_local.structured import ResponseFormat
from cf_local.types import is_unicode

Model = TypeVar("Model", bound=BaseModel)

MOST_MESSAGES = 4096
MOST_STOPS = 16
MOST_TOKENS = 2**31 - 1
_BY_NAME = ("max_tokens", "stop")
"""Settings that dialects call by names of their own."""
_OF_OPENAI = (*_BY_NAME, "seed", "temperature", "top_p")
_TIGHTER: Mapping[str, float] = {"temperature": 2}
"""OpenAI's upper bounds where the table has none."""


def _text(value: str) -> str:
    if not is_unicode(value):
        problem = "Input contains half of a character (a lone surrogate), which is not text"
        raise PydanticCustomError("not_text", "{problem}", {"problem": problem})
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = Annotated[str, Strict(), AfterValidator(_text)]
SomeText = Annotated[Text, Field(min_length=1)]
Flag = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
"""A whole number, also written as 8.0."""
Stops = Text | Annotated[list[Text], Field(max_length=MOST_STOPS)]
TokenId = Annotated[Whole, Field(ge=0, lt=2**31)]


def _name_bounds(schema: Any) -> None:
    """Describe bounds in the words of JSON schemas: next to a validator pydantic uses its own."""
    if isinstance(schema, dict):
        for name, known in (("ge", "minimum"), ("le", "maximum")):
            if name in schema:
                schema[known] = schema.pop(name)
    if isinstance(schema, dict | list):
        for part in schema.values() if isinstance(schema, dict) else schema:
            _name_bounds(part)


class Open(BaseModel):
    """An object that may have more fields, which are ignored."""

    model_config = ConfigDict(extra="ignore", json_schema_extra=_name_bounds)


class Closed(BaseModel):
    """An object that has no more fields."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_name_bounds)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        names = {field.alias or name for name, field in cls.model_fields.items()}
        for key in value if isinstance(value, dict) else ():
            if key not in names:
                context = {"at": key, "known": sorted(names)}
                raise PydanticCustomError("unknown_parameter", "unknown", context)
        return value


class Body(BaseModel):
    """A whole body; the server ignores more fields, and says so, or refuses them."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_name_bounds)

    def ignored(self) -> list[str]:
        """The names of the fields that have no effect."""
        return list(self.model_extra or ())


def not_supported(problem: str, at: str | None = None) -> PydanticCustomError:
    """The error for what a fusion lacks; ``problem`` goes on from the name of the place.

    ``at`` names the wrong field of an object.
    """
    context = {"problem": f"Input {problem}"} | ({} if at is None else {"at": at})
    return PydanticCustomError("unsupported_parameter", "{problem}", context)


def not_supported_type(kind: str, why: str, at: str = "type") -> PydanticCustomError:
    """The error for an object of another type; ``why`` goes on from "which is not supported; "."""
    return not_supported(f"is {kind[:60]!r}, which is not supported; {why}", at)


def of_types(known: Collection[str], why: str) -> BeforeValidator:
    """Refuses an object of another ``type`` as not supported, rather than as wrong.

    ``why`` goes on from "which is not supported; ".
    """

    def check(value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind not in known:
            raise not_supported_type(kind, why)
        return value

    return BeforeValidator(check)


def readable(*known: str) -> BeforeValidator:
    """Refuses parts of a content that are not of ``known`` types, such as images."""
    return of_types(known, "a fusion reads text")


def _refused(problem: str) -> WrapValidator:
    def refuse(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise not_supported(problem) from None

    return WrapValidator(refuse)


REFUSED = _refused("is not supported by a fusion")
"""Marks a field of a feature that a fusion lacks: its type has the values that ask for nothing."""
Nothing = Annotated[None, REFUSED]
NoList = Annotated[Annotated[list[Any], Field(max_length=0)] | None, REFUSED]
No = Annotated[Literal[False] | None, REFUSED]
NoTokenBias = Annotated[
    Annotated[dict[str, Any], Field(max_length=0)] | None,
    _refused(
        "names tokens by numbers, which differ in every model; name texts instead, in "
        'cf_local.logit_bias: {" the fox": -100}'
    ),
    AfterValidator(lambda _nothing: None),
]
"""OpenAI's ``logit_bias``. It is not ignored, as an answer without it is not what was asked for."""


def _type_of(option: Option) -> Any:
    """The type of the values of a row of the settings table."""
    bounds = Field(
        ge=option.low if math.isfinite(option.low) else None,
        le=_TIGHTER.get(option.name, option.high if math.isfinite(option.high) else None),
    )
    if option.kind == "choice":
        return Literal[option.choices]
    if option.kind == "numbers":
        number = Annotated[Number, Field(ge=option.low, le=min(option.high, 1e6))]
        named = dict[SomeText, number]
        return Literal[option.choices] | named if option.choices else named
    return {
        "switch": Flag,
        "source": Text,
        "texts": list[Text],
        "whole": Annotated[Whole, bounds],
        "number": Annotated[Number, bounds],
    }[option.kind]


def _with(names: Callable[[Option], bool]) -> Callable[[type[Model]], type[Model]]:
    """Add a field for each row of the table that ``names`` picks."""
    rows: dict[str, Any] = {
        name: (_type_of(option) | None, Field(default=None, description=option.help))
        for name, option in OPTIONS.items()
        if names(option)
    }

    def add(model: type[Model]) -> type[Model]:
        return create_model(
            model.__name__,
            __base__=model,
            __module__=model.__module__,
            __doc__=model.__doc__,
            **rows,
        )

    return add


with_sampling = _with(lambda option: option.is_sampling and option.name != "logit_bias")
"""Gives a body a field for each setting of sampling. A ``logit_bias`` of texts is in the extension
only."""


@_with(lambda option: option.name not in _OF_OPENAI)
class Extension(Closed):
    """The field ``cf_local``: settings that no other interface has."""

    trace: Flag | None = None


def settings_of(body: BaseModel, extension: Extension | None) -> dict[str, Any]:
    """The settings that a body has fields for, and those of its extension."""
    return {
        name: value
        for given in (body, extension)
        if given is not None
        for name in type(given).model_fields  # not further fields of a body, which are not checked
        if name in OPTIONS and name not in _BY_NAME
        if (value := getattr(given, name)) is not None
    }


def token_limit(n_tokens: int) -> int:
    """The setting ``max_tokens`` of a request; a negative number asks for no limit."""
    return MOST_TOKENS if n_tokens < 0 else n_tokens


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop texts; clients send an empty one where they have none."""
    return tuple(filter(None, [stop] if isinstance(stop, str) else stop or ()))


class TextPart(Open):
    """A part of a content."""

    type: Literal["text"]
    text: Text


class RefusalPart(Open):
    """A part of what an assistant said."""

    type: Literal["refusal"]
    refusal: Text


Texts = list[Annotated[TextPart, readable("text")]]
Parts = Annotated[Texts, Field(min_length=1)]
ReplyParts = list[
    Annotated[TextPart | RefusalPart, Field(discriminator="type"), readable("text", "refusal")]
]


def text_of(content: str | list[Any] | None) -> str:
    """The text of a content: its parts, joined by line ends."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = (part.refusal if isinstance(part, RefusalPart) else part.text for part in content)
    return "\n".join(parts)


class JsonSchema(Closed):
    """A schema for the answer."""

    name: Text | None = None
    description: Text | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: Flag | None = None


class TextFormat(Closed):
    """No form."""

    type: Literal["text"]


class JsonObjectFormat(Closed):
    """Any object, or one of a schema."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class JsonSchemaFormat(Closed):
    """A value of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class GrammarFormat(Closed):
    """A text of a grammar in GBNF."""

    type: Literal["grammar"]
    grammar: Text


FormatModel = TextFormat | JsonObjectFormat | JsonSchemaFormat | GrammarFormat
AnswerFormat = Annotated[FormatModel, Field(discriminator="type")]


def response_format(
    form: FormatModel | None,
    grammar: str | None = None,
    param: str = "response_format",
) -> ResponseFormat | None:
    """The form of the answer; ``param`` names it in errors. May take long. Raises ApiError."""
    if isinstance(form, TextFormat):
        form = None
    if grammar is not None and form is not None:
        raise invalid(f"grammar and {param} cannot be combined.", "grammar")
    try:
        match form:
            case JsonSchemaFormat():
                return ResponseFormat.json_schema(form.json_schema.schema_)
            case JsonObjectFormat():
                schema = form.schema_
                wanted = {"type": "object"} if schema is None else schema
                return ResponseFormat.json_schema(wanted)
            case GrammarFormat():
                return ResponseFormat.gbnf(form.grammar)
        return None if grammar is None else ResponseFormat.gbnf(grammar)
    except (InputError, RecursionError) as error:
        too_deep = "The response format is nested too deeply."
        message = str(error) if isinstance(error, InputError) else too_deep
        raise invalid(message, "grammar" if grammar is not None else param) from None

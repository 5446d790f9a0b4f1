"""Parses the body of a request into prompts and settings, or raises a clear error."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cf_local.errors import InputError
from cf_local.server.api_errors import ApiError, invalid, unsupported
from cf_local.server.parameters import CHAT, COMPLETION, MOST_CHOICES, NO_LIMIT, PENALTIES, REFUSED
from cf_local.server.validation import checked
from cf_local.settings import OPTIONS, Settings
from cf_local.structured import ResponseFormat
from cf_local.types import Chat, Message, Prompt, RawText, SourceInfo

Endpoint = Literal["chat", "completion"]

_BODIES: Mapping[Endpoint, Mapping[str, Any]] = {"chat": CHAT, "completion": COMPLETION}
_ROLES = {"developer": "system"}
_MOST_TOKENS = 2**31 - 1
_SEED_STRIDE = 1_000_003
"""Distance between the seeds of choices; the sources of a choice use consecutive seeds."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A checked request; ``settings`` holds only what the request sets itself.

    ``n_logprobs`` is the number of candidates to report beside the winner; None for no
    log-probabilities. ``ignored`` names the parameters that have no effect.
    """

    endpoint: Endpoint
    model: str
    prompts: tuple[Prompt, ...]
    n: int
    streams: bool
    reports_usage: bool
    traces: bool
    n_logprobs: int | None
    stop: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int
    ignored: tuple[str, ...] = ()

    @property
    def choices(self) -> list[tuple[int, Prompt, int]]:
        """Index, prompt and seed of each answer to write."""
        pairs = [(prompt, i) for prompt in self.prompts for i in range(self.n)]
        return [
            (index, prompt, self.seed + i * _SEED_STRIDE) for index, (prompt, i) in enumerate(pairs)
        ]

    def settings_over(
        self, defaults: Settings, sources: Sequence[SourceInfo], seed: int
    ) -> Settings:
        """The settings of one answer by a fusion of ``sources``, over its ``defaults``.

        Raises InputError for settings that make no sense together.
        """
        given = dict(self.settings)
        form = given.pop("response_format", defaults.response_format)
        has_logprobs = self.n_logprobs is not None
        settings = replace(defaults, score_unanimous=has_logprobs, response_format=form)
        everyone = {"all_scores": True} if has_logprobs else {}
        settings = settings.with_options(
            {**given, **everyone, "seed": seed, "stop": (*defaults.stop, *self.stop)}
        )
        settings.weights_of(sources)
        return settings


def read_json(raw: bytes) -> Any:
    """The value of a body in strict JSON. Raises ApiError."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise invalid(f"The body is not JSON: {why}.", None, "invalid_json") from None


def parse_request(
    body: Any, endpoint: Endpoint, seed: int, *, is_strict: bool = False
) -> ApiRequest:
    """The request in a body; ``seed`` applies if the body has none.

    Unknown parameters and penalties are ignored, unless ``is_strict``. Raises ApiError.
    """
    ignored: tuple[str, ...] = ()
    if isinstance(body, dict):
        if not is_strict:
            ignored = tuple(_without_effect(body, endpoint))
            body = {key: value for key, value in body.items() if key not in ignored}
        _refuse_unsupported(body, endpoint)
    given = checked(body, _BODIES[endpoint])
    given = {key: value for key, value in given.items() if value is not None}
    extension = {k: v for k, v in given.get("cf_local", {}).items() if v is not None}
    settings = {
        key: value
        for key, value in (given | extension).items()
        if key in OPTIONS and key not in ("stop", "seed", "max_tokens")
    }
    if (n_tokens := _max_tokens(given)) is not None:
        settings["max_tokens"] = n_tokens
    stop = given.get("stop", [])
    # Clients send an empty string where they have no stop string.
    stop = tuple(filter(None, [stop] if isinstance(stop, str) else stop))
    response_format = _response_format(given)
    if response_format is not None:
        settings["response_format"] = response_format
        if stop:
            raise invalid("stop would break the requested format. Leave one out.", "stop")
    request = ApiRequest(
        endpoint=endpoint,
        model=given["model"],
        prompts=_prompts(given, endpoint),
        n=given.get("n", 1),
        streams=given.get("stream", False),
        reports_usage=bool(given.get("stream_options", {}).get("include_usage")),
        traces=extension.get("trace", False),
        n_logprobs=_n_logprobs(given, endpoint),
        stop=stop,
        settings=settings,
        seed=given.get("seed", seed),
        ignored=ignored,
    )  # fmt: skip
    _check_together(request, given)
    return request


def _check_together(request: ApiRequest, given: Mapping[str, Any]) -> None:
    if "stream_options" in given and not request.streams:
        raise invalid("stream_options needs stream: true.", "stream_options")
    if len(request.choices) > MOST_CHOICES:
        raise invalid(f"A request may have at most {MOST_CHOICES} answers: prompts times n.", "n")


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    limits = {given[key] for key in ("max_tokens", "max_completion_tokens") if key in given}
    if len(limits) > 1:
        raise invalid(
            "max_tokens and max_completion_tokens mean the same, but differ. Leave one out.",
            "max_tokens",
        )
    return next((_MOST_TOKENS if limit == NO_LIMIT else limit for limit in limits), None)


def _n_logprobs(given: Mapping[str, Any], endpoint: Endpoint) -> int | None:
    if endpoint == "completion":
        n_candidates: int | None = given.get("logprobs")
        return n_candidates
    if not given.get("logprobs"):
        if given.get("top_logprobs"):
            raise invalid("top_logprobs needs logprobs: true.", "top_logprobs")
        return None
    return int(given.get("top_logprobs", 0))


def _prompts(given: Mapping[str, Any], endpoint: Endpoint) -> tuple[Prompt, ...]:
    if endpoint == "chat":
        thinks = given.get("chat_template_kwargs", {}).get("enable_thinking")
        return (Chat(tuple(map(_message, given["messages"])), thinks),)
    prompt = given["prompt"]
    return tuple(map(RawText, [prompt] if isinstance(prompt, str) else prompt))


def _message(given: Mapping[str, Any]) -> Message:
    content = given.get("content") or given.get("refusal") or ""
    if not isinstance(content, str):
        content = "\n".join(part[part["type"]] for part in content)
    return Message(_ROLES.get(given["role"], given["role"]), content)


def _response_format(given: Mapping[str, Any]) -> ResponseFormat | None:
    form, grammar = given.get("response_format", {"type": "text"}), given.get("grammar")
    if grammar is not None and form["type"] != "text":
        raise invalid("grammar and response_format exclude each other.", "grammar")
    is_grammar = form["type"] == "grammar"
    param = "response_format" if form["type"] != "text" else "grammar"
    try:
        if grammar is None and not is_grammar:
            return ResponseFormat.openai(form)
        return ResponseFormat.gbnf(grammar if grammar is not None else form["grammar"])
    except (InputError, RecursionError) as error:
        too_deep = "The response format is nested too deeply."
        message = str(error) if isinstance(error, InputError) else too_deep
        raise invalid(message, param) from None


def _without_effect(body: Mapping[str, Any], endpoint: Endpoint) -> Iterator[str]:
    """The names of unknown parameters, and of penalties."""
    known = _BODIES[endpoint]["properties"]
    for key, value in body.items():
        is_penalty = key in PENALTIES and isinstance(value, int | float) and value != 0
        if key not in known or is_penalty:
            yield key


def _refuse_unsupported(body: Mapping[str, Any], endpoint: Endpoint) -> None:
    """Raise a clear error for features of OpenAI's that a fusion does not support."""
    known = _BODIES[endpoint]["properties"]
    for key in REFUSED.keys() & body.keys() & known.keys():
        try:
            checked(body[key], REFUSED[key], key)
        except ApiError:
            raise unsupported(f"{key} is not supported by a fusion.", key) from None
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            _refuse_content(message, f"messages[{index}]")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and any(isinstance(part, int | list) for part in prompt):
        raise unsupported(
            "prompt: tokens are not supported, as each source has its own vocabulary.", "prompt"
        )


def _refuse_content(message: Mapping[str, Any], where: str) -> None:
    if message.get("role") in ("tool", "function"):
        raise unsupported(f"{where}: tools are not supported by a fusion.", f"{where}.role")
    if message.get("tool_calls") or message.get("function_call"):
        raise unsupported(f"{where}: tools are not supported by a fusion.", f"{where}.tool_calls")
    for key in ("images", "audio"):
        if message.get(key):
            raise unsupported(
                f"{where}: {key} is not supported; a fusion reads text.", f"{where}.{key}"
            )
    content = message.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in ("text", "refusal"):
            raise unsupported(
                f"{where}: content of type {kind[:60]!r} is not supported; a fusion reads text.",
                f"{where}.content[{index}].type",
            )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")

"""Prompts as tokens: chat templates from the model file, and typed text that is never markup.

The model's own Jinja template renders a chat. In the result only the template's special tokens
become special: special-looking strings typed by a person are broken up before rendering and
tokenized as ordinary text. Everything between two special tokens is tokenized in one piece, content
and markup together, because that is how the model saw it in training.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any, get_args

from cf_local.errors import BrokenModelError, InputError
from cf_local.llama.library import lib
from cf_local.llama.sandbox import ExcessError, SandboxedFormatter, reason_of
from cf_local.llama.tool_turns import (
    PROBE,
    has_tools,
    holds_tools,
    is_alike,
    n_times,
    plain_turns,
    probe,
    template_turns,
    with_texts,
)
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.thinking import OPENING
from cf_local.structured import tools as calls
from cf_local.structured.tools import Tool, ToolForm
from cf_local.types import Infill, Message, Prompt, RawText, Tokens

# A private-use character that texts do not contain; inserted to break up typed special strings.
_GUARD = "\U0010f7a5"
_CONTROL = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
_USER_DEFINED = lib.LLAMA_TOKEN_ATTR_USER_DEFINED
_WAY_OUT = "Set `template` for this source in models.toml, or use --raw."
_SWITCH = re.compile(r"(?<!\S)/[A-Za-z_]+(?!\S)")  # words that templates read and take out
_MARK = "Typed"
_WHITESPACE = " \t\n\v\f\r"  # what llama.cpp strips; an ideographic space counts as text
# Templates of many Qwen 2.5 files show calls with doubled braces, and the models copy them.
_SHOWN = r"{\"name\": <function-name>, \"arguments\": <args-json-object>}"
_QWEN_BRACES = (f"{{{_SHOWN}}}", _SHOWN)
_PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[m['role']] + m['content'] }}"
    "{{ '\n\n' }}{% endfor %}Assistant:"
)


class ChatTemplate:
    """A model's chat template; without one it ``is_plain`` and uses "User: / Assistant:"."""

    def __init__(self, template: str | None, vocabulary: LlamaVocabulary, name: str) -> None:
        self.is_plain = template is None
        self.name = name
        self._source = (template or _PLAIN_TEMPLATE).replace(*_QWEN_BRACES)
        self._vocabulary = vocabulary
        try:
            self._formatter = SandboxedFormatter(
                self._source,
                eos_token=vocabulary.text(vocabulary.eos_token),
                bos_token=vocabulary.text(vocabulary.bos_token),
            )
        except Exception as error:  # constants are computed when it is compiled
            raise BrokenModelError(
                f"The chat template of {name} cannot be read: {reason_of(error)}. {_WAY_OUT}"
            ) from error
        self._excess = ""
        self._arguments_as_text = False
        self.tool_form = self._own_tool_form()
        """How the template writes calls of tools; None if it cannot, or in tokens text lacks."""

    def render(
        self,
        messages: Sequence[Message],
        thinks: bool | None = None,
        *,
        tools: Sequence[Tool] = (),
        tool_form: ToolForm | None = None,
    ) -> str:
        """The conversation as the model expects it, up to the start of its answer.

        Tools, calls and results are rendered by the template if ``tool_form`` is its own, and are
        turned into text otherwise.

        System text is folded into the first user turn, and adjacent turns of one role are merged,
        if the template refuses or ignores the messages as they are. ``thinks`` is passed to the
        template, which may switch thinking on and off. Raises InputError if it accepts no variant.
        """
        if has_tools(messages, tools):
            form = tool_form or self.tool_form or "tags"
            if form == self.tool_form:
                rendered = self._render_tools(messages, thinks, tools, form)
                if rendered is not None:
                    return rendered
            messages = plain_turns(messages, tools, form)
        failure: Exception | None = None
        # Some templates require an empty list of tools; others take an empty list for tools.
        no_tools: tuple[Any, ...] = (None, [])
        for none, variant in product(no_tools, _variants(messages)):
            try:
                text = self._render(variant, none, thinks)
            except ExcessError as error:
                self._excess = str(error)
                break
            except Exception as error:  # noqa: BLE001 - a template computes what it likes
                failure = failure or error
                continue
            if _holds(text, variant):
                return text
            if (rewritten := self._rewritten(text, variant, none, thinks)) is not None:
                return rewritten
        if self._excess:
            raise InputError(f"The chat template of {self.name} {self._excess}. {_WAY_OUT}")
        why = "it leaves out part of the conversation" if failure is None else reason_of(failure)
        raise InputError(
            f"The chat template of {self.name} refuses this conversation: {why}. {_WAY_OUT}"
        )

    def _render_tools(
        self,
        messages: Sequence[Message],
        thinks: bool | None,
        tools: Sequence[Tool],
        form: ToolForm,
    ) -> str | None:
        """The conversation in the template's own form; None if it does not render all of it."""
        described = [calls.described(tool) for tool in tools] or None
        try:
            text = self._render(messages, described, thinks)
        except ExcessError as error:
            self._excess = str(error)
            return None
        except Exception:  # noqa: BLE001 - as in render: many templates allow one call a turn
            return None
        if not holds_tools(text, messages, tools, form):
            return None
        if _holds(text, messages):
            return text
        return self._rewritten(text, messages, described, thinks)

    def _own_tool_form(self) -> ToolForm | None:
        """The form that the template has for calls: that in which a call reads as in its turns."""
        if "tool" not in self._source:
            return None
        described = [calls.described(PROBE)]
        forms: tuple[ToolForm, ...] = get_args(ToolForm)
        for form, self._arguments_as_text in product(forms, (False, True)):
            asked, called, written, result = probe(form)
            try:
                text = self._render([asked, called, result], described, None)
                own, plain = (
                    self._render([asked, turn, asked], described, None)
                    for turn in (called, written)
                )
            except ExcessError as error:
                self._excess = str(error)
                return None
            except Exception:  # noqa: BLE001 - as in render
                continue
            is_whole = holds_tools(text, [called], [PROBE], form) and _holds(text, [result])
            if is_whole and is_alike(own, plain):
                return None if form == "tags" and self._is_control(calls.OPENING) else form
        return None

    def _is_control(self, text: str) -> bool:
        """Whether the vocabulary has ``text`` as a control token, which no answer contains."""
        return any(
            self._vocabulary.attributes(token) & _CONTROL
            for token in self._vocabulary.encode_markup(text)
        )

    def _rewritten(
        self, text: str, messages: Sequence[Message], tools: Any, thinks: bool | None
    ) -> str | None:
        """``text`` if the template contains every message, though not as it was typed.

        Templates read switches such as /no_think and take them out, or escape characters. None if
        a message is missing. Where the rewriting put together a special token (of two halves with a
        switch between them), the template gets text in which it cannot recognize anything.
        """
        marks = [f"{_MARK}{chr(97 + i % 26) * (1 + i // 26)}X" for i in range(len(messages))]
        frame = [
            replace(m, content=" ".join([*_SWITCH.findall(m.content), mark]))
            for m, mark in zip(messages, marks, strict=True)
        ]
        try:
            frame_text = self._render(frame, tools, thinks)
            is_whole = all(
                mark in frame_text
                for m, mark in zip(messages, marks, strict=True)
                if m.role != "assistant"
            )
            if not is_whole:
                return None
            if self._markup(text) == self._markup(frame_text):
                return text
            broken = [replace(m, content=_GUARD.join(m.content)) for m in messages]
            text = self._render(broken, tools, thinks)
        except Exception:  # noqa: BLE001 - as in render
            return None
        return text if _holds(text, broken) else None

    def _markup(self, text: str) -> list[int]:
        """The tokens of ``text`` that only the template may write, in order."""
        return [t for t in self._vocabulary.encode_markup(text) if self.is_markup(t)]

    def opens_thinking(self) -> Mapping[bool | None, str]:
        """The tag that ends a prompt, for those values of ``thinks`` for which one does."""
        question, found = [Message("user", "Hello")], dict[bool | None, str]()
        for thinks in (None, True, False):
            with suppress(InputError):
                end = self.render(question, thinks).rstrip()
                found.update((thinks, tag) for tag in OPENING if end.endswith(tag))
        return found

    def is_markup(self, token: int) -> bool:
        """Whether a token is markup, which only the template may write.

        User-defined tokens are ordinary text (runs of spaces, say) unless they end an answer or
        the template writes them (the turns of Command R).
        """
        attributes = self._vocabulary.attributes(token)
        if attributes & _CONTROL or token in self._vocabulary.end_tokens:
            return True
        text = self._vocabulary.text(token)
        return bool(attributes & _USER_DEFINED) and len(text.strip()) > 1 and text in self._source

    def _render(self, messages: Sequence[Message], tools: Any, thinks: bool | None) -> str:
        # The formatter's types name a TypedDict per role; templates only ever see plain dicts.
        turns: Any = template_turns(messages, as_text=self._arguments_as_text)
        # Qwen3 and most others call it enable_thinking; Granite and DeepSeek V3.1 thinking.
        switches: dict[str, Any] = (
            {} if thinks is None else {"enable_thinking": thinks, "thinking": thinks}
        )
        if self._excess:
            raise ExcessError(self._excess)
        return self._formatter.render(messages=turns, tools=tools, functions=tools, **switches)


def encode_prompt(prompt: Prompt, template: ChatTemplate, vocabulary: LlamaVocabulary) -> list[int]:
    """Tokens of a prompt. Templates write BOS themselves; other text gets it if it should.

    Raises InputError for tokens that the vocabulary lacks, and what ``ChatTemplate.render`` raises.
    """
    if isinstance(prompt, RawText):
        return _bos(vocabulary) + _encode_text(prompt.text, vocabulary)
    if isinstance(prompt, Tokens):
        return _checked(prompt.ids, template.name, vocabulary)
    if isinstance(prompt, Infill):
        return _bos(vocabulary) + _encode_gap(prompt, template, vocabulary)
    chat = with_texts(prompt, lambda text: _guard(text, template.is_markup, vocabulary))
    rendered = template.render(
        chat.messages, chat.thinks, tools=chat.tools, tool_form=chat.tool_form
    )
    tokens = _encode_rendered(rendered, vocabulary)
    return _bos(vocabulary) + tokens if template.is_plain else tokens


def _checked(ids: Sequence[int], name: str, vocabulary: LlamaVocabulary) -> list[int]:
    for token in ids:
        if not 0 <= token < vocabulary.n_tokens:
            raise InputError(
                f"{name}: token {token} does not exist; its vocabulary has 0 to "
                f"{vocabulary.n_tokens - 1}."
            )
    return list(ids)


def _encode_gap(prompt: Infill, template: ChatTemplate, vocabulary: LlamaVocabulary) -> list[int]:
    """Prefix, suffix, then the middle to be written: the order that models are trained with."""
    marks = vocabulary.gap_tokens
    if marks is None:
        raise InputError(
            f"{template.name} cannot fill a gap: its vocabulary has no tokens that mark one. "
            "Choose models for code, or leave the suffix out."
        )

    def is_markup(token: int) -> bool:
        return token in marks or template.is_markup(token)

    before, after, here = marks
    prefix, suffix = (
        _encode_runs(_guard(text, is_markup, vocabulary), vocabulary)
        for text in (prompt.prefix, prompt.suffix)
    )
    return [before, *prefix, after, *suffix, here]


def _variants(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The conversation as it is, then with more and more changes for restrictive templates."""
    yield messages
    yield _merged(messages)
    yield _folded(messages)
    yield _merged(_folded(messages))
    if (opened := _opened(messages)) is not messages:
        yield opened
        yield _merged(_folded(opened))


def _holds(text: str, messages: Sequence[Message]) -> bool:
    """Whether the rendered ``text`` contains everything that was typed, as often as it was typed.

    Templates may leave out parts of earlier answers: what the model thought. Some write results
    of tools as JSON.
    """
    typed = [(m.role, m.content.strip()) for m in messages if m.role != "assistant"]
    return all(
        (n_times(part, text) if role == "tool" else text.count(part))
        >= sum(t.count(part) for _, t in typed)
        for role, part in typed
        if part
    )


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Neighbouring turns of one role as one turn."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            message = Message(message.role, f"{merged.pop().content}\n\n{message.content}")
        merged.append(message)
    return merged


def _opened(messages: Sequence[Message]) -> Sequence[Message]:
    """A conversation that the assistant begins, with an empty turn of the user before it."""
    for index, message in enumerate(messages):
        if message.role == "assistant":
            return [*messages[:index], Message("user", ""), *messages[index:]]
        if message.role != "system":
            break
    return messages


def _folded(messages: Sequence[Message]) -> list[Message]:
    """System text put in front of the first user turn."""
    system = [m.content for m in messages if m.role == "system"]
    turns = [m for m in messages if m.role != "system"]
    for index, turn in enumerate(turns):
        if turn.role == "user":
            parts = [*system, turn.content] if turn.content else system
            turns[index] = Message("user", "\n\n".join(parts))
            return turns
    return [*(Message("user", text) for text in system), *turns]


def _guard(content: str, is_markup: Callable[[int], bool], vocabulary: LlamaVocabulary) -> str:
    """``content`` with the strings broken up that would become markup."""
    content = content.replace(_GUARD, "")
    # Breaking one may reveal another: Falcon's ">>TITLE<<|endoftext|>" holds two.
    while found := set(filter(is_markup, _special_tokens(content, vocabulary))):
        content = _pattern(found, vocabulary).sub(_broken, content)
    return content


def _broken(match: re.Match[str]) -> str:
    return f"{match[0][0]}{_GUARD}{match[0][1:]}" if len(match[0]) > 1 else ""


def _special_tokens(text: str, vocabulary: LlamaVocabulary) -> set[int]:
    """The special tokens that llama.cpp finds in ``text``."""
    kinds = _CONTROL | _USER_DEFINED
    return {t for t in vocabulary.encode_markup(text) if vocabulary.attributes(t) & kinds}


def _pattern(tokens: Iterable[int], vocabulary: LlamaVocabulary) -> re.Pattern[str]:
    """Matches ``tokens`` as they are written, longest first as llama.cpp does."""
    strings = sorted(map(vocabulary.text, tokens), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, strings))})")


def _encode_rendered(rendered: str, vocabulary: LlamaVocabulary) -> list[int]:
    found = _special_tokens(rendered, vocabulary)
    parts = _pattern(found, vocabulary).split(rendered) if found else [rendered]
    tokens: list[int] = []
    for index, part in enumerate(_stripped(parts, vocabulary)):
        if index % 2:  # re.split puts the matches at the odd places
            tokens += vocabulary.encode_markup(part)
        else:
            tokens += _encode_text(part, vocabulary)
    return tokens


def _stripped(parts: Sequence[str], vocabulary: LlamaVocabulary) -> Iterable[str]:
    """Text parts without the whitespace that an adjacent special token swallows (as in Phi-3)."""
    stripped = list(parts)
    for index in range(1, len(parts), 2):
        (token,) = vocabulary.encode_markup(parts[index])
        attributes = vocabulary.attributes(token)
        if attributes & lib.LLAMA_TOKEN_ATTR_LSTRIP:
            stripped[index - 1] = stripped[index - 1].rstrip(_WHITESPACE)
        if attributes & lib.LLAMA_TOKEN_ATTR_RSTRIP:
            stripped[index + 1] = stripped[index + 1].lstrip(_WHITESPACE)
    return stripped


def _encode_text(text: str, vocabulary: LlamaVocabulary) -> list[int]:
    """Tokens of a run of ordinary text, with the space prefix that the vocabulary wants.

    It stays split at guards: llama.cpp makes one token of a user-defined string anywhere.
    """
    if not text:
        return []
    prefixed = (" " if vocabulary.adds_space else "") + text
    return _encode_runs(prefixed, vocabulary)


def _encode_runs(text: str, vocabulary: LlamaVocabulary) -> list[int]:
    """Tokens of ordinary text, split at its guards."""
    return [t for run in text.split(_GUARD) for t in vocabulary.encode(run.encode())]


def _bos(vocabulary: LlamaVocabulary) -> list[int]:
    bos = vocabulary.bos_token
    return [bos] if bos is not None and vocabulary.adds_bos else []

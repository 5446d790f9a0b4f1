"""The tokens of a model as clients see them, and the echo of a prompt, token by token.

One source has the tokens of its vocabulary. What several sources have in common is characters: a
fusion has a token for each, numbered beyond all vocabularies, so that neither is taken for the
other.
"""

import codecs
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from cf_local.errors import InputError
from cf_local.evaluation.likelihood import NOTHING, Token
from cf_local.method.session import OwnTokens, Source
from cf_local.server.replication.proxy import ReplicatedSource
from cf_local.types import Prompt, RawText, Tokens, is_unicode

AnySource = Source | ReplicatedSource
FIRST_CHARACTER = 1 << 21
"""The token of a fusion for the first character of Unicode; vocabularies are ten times smaller."""
_N_CHARACTERS = 0x110000


def tokens_of(text: str, sources: Sequence[AnySource], *, adds_special: bool) -> list[int]:
    """The tokens of a text. Raises InputError for a source that has none."""
    if len(sources) > 1:
        return [FIRST_CHARACTER + ord(char) for char in text]
    return _own(sources[0]).tokenize(text, adds_bos=adds_special)


def text_of(tokens: Sequence[int], sources: Sequence[AnySource]) -> str:
    """The text of tokens. Raises InputError for tokens that the sources do not have."""
    if len(sources) == 1:
        return _own(sources[0]).detokenize(tokens).decode(errors="replace")
    for token in tokens:
        code = token - FIRST_CHARACTER
        if not 0 <= code < _N_CHARACTERS or not is_unicode(chr(code)):
            raise InputError(
                f"Token {token}: each source of a fusion has a vocabulary of its own. Send text, "
                "the tokens that /tokenize gives for this model, or ask a source alone."
            )
    return "".join(chr(token - FIRST_CHARACTER) for token in tokens)


def bounds_of(sources: Sequence[AnySource]) -> tuple[str | None, str | None]:
    """What begins and ends a text, as a text that is one token: for a fusion a line break."""
    if len(sources) > 1:
        return NOTHING.text, NOTHING.text
    return _own(sources[0]).bounds


def _own(source: AnySource) -> OwnTokens:
    if not isinstance(source, OwnTokens):
        raise InputError(f"{source.info.name} does not report its tokens.")
    return source


def readable(prompt: Prompt, sources: Sequence[AnySource]) -> Prompt:
    """A prompt as the sources read it: tokens of a fusion are text. Raises InputError."""
    if isinstance(prompt, Tokens) and len(sources) > 1:
        return RawText(text_of(prompt.ids, sources))
    return prompt


@dataclass(frozen=True, slots=True)
class Echo:
    """The text of a prompt, and how likely its tokens are, if that was asked for."""

    text: str
    tokens: tuple[Token, ...] = ()


async def echo(
    prompt: Prompt,
    sources: Sequence[AnySource],
    read: Callable[[Prompt], Awaitable[Sequence[Token]]] | None,
) -> Echo:
    """The echo of a prompt of text or tokens; ``read`` returns how likely its tokens are."""
    shown = readable(prompt, sources)
    text = shown.text if isinstance(shown, RawText) else text_of(_ids(shown), sources)
    if read is None:
        return Echo(text)
    found = await read(shown)
    return Echo(text, tuple(found if shown is prompt else _by_character(found)))


def _ids(prompt: Prompt) -> Sequence[int]:
    assert isinstance(prompt, Tokens)
    return prompt.ids


def _by_character(words: Sequence[Token]) -> Iterator[Token]:
    """A token for each character: the last one of a word has the word's probability.

    So the probabilities of a text's characters add up to its own, wherever it begins within a word.
    """
    for text, logprob, likely in words:
        *chars, last = list(text.decode())
        for char in chars:
            sure = None if logprob is None else 0.0
            yield Token(char.encode(), sure, ((char.encode(), 0.0),) if likely else ())
        yield Token(last.encode(), logprob, _as_last(last, text, likely))


def _as_last(
    last: str, word: bytes, likely: Sequence[tuple[bytes, float]]
) -> tuple[tuple[bytes, float], ...]:
    return tuple((last.encode() if text == word else text, logprob) for text, logprob in likely)


def shown(texts: Sequence[bytes]) -> tuple[list[str], list[int]]:
    """Tokens as OpenAI shows them, and the character at which each begins in their text."""
    decoder, names, starts, n_chars = codecs.getincrementaldecoder("utf-8")("replace"), [], [], 0
    for text in texts:
        names.append(name_of(text))
        starts.append(n_chars)
        n_chars += len(decoder.decode(text))
    return names, starts


def name_of(text: bytes) -> str:
    """A token's text; one that holds part of a character is spelled byte by byte."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text)

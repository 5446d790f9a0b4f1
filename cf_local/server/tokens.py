"""``/tokenize``, ``/detokenize`` and ``/tokenizer_info``: the tokens of a model, for its clients.

The paths and bodies are vLLM's; lm-evaluation-harness asks for them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from typing_extensions import TypedDict

from cf_local.errors import CfLocalError
from cf_local.server.api_errors import of_answer
from cf_local.server.catalogue import Catalogue
from cf_local.server.dialects import fields
from cf_local.server.pool import Pool
from cf_local.server.vocabulary import AnySource, bounds_of, text_of, tokens_of


class TokenizeBody(fields.Body):
    """A text to cut into tokens."""

    prompt: fields.Text
    model: fields.SomeText | None = None
    add_special_tokens: fields.Flag | None = None


class TokenizeResponse(TypedDict):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]


class DetokenizeBody(fields.Body):
    """Tokens to join."""

    tokens: list[fields.TokenId]
    model: fields.SomeText | None = None


class DetokenizeResponse(TypedDict):
    """The text of tokens."""

    prompt: str


class TokenizerInfo(TypedDict):
    """What begins and ends a text, as a text that /tokenize makes one token of."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None


class Tokenizers:
    """The three endpoints; a request that names no model means the default.

    A long text takes a second, so the work is done outside the event loop.
    """

    def __init__(self, catalogue: Catalogue, pool: Pool) -> None:
        self._catalogue, self._pool = catalogue, pool

    async def tokenize(self, body: TokenizeBody) -> TokenizeResponse:
        """The tokens of a text."""
        async with self._sources(body.model) as sources:
            n_ctx = min(source.info.n_ctx for source in sources)
            adds_special = body.add_special_tokens is not False
            tokens = await asyncio.to_thread(
                tokens_of, body.prompt, sources, adds_special=adds_special
            )
        return {"count": len(tokens), "max_model_len": n_ctx, "tokens": tokens}

    async def detokenize(self, body: DetokenizeBody) -> DetokenizeResponse:
        """The text of tokens."""
        async with self._sources(body.model) as sources:
            return {"prompt": await asyncio.to_thread(text_of, body.tokens, sources)}

    async def info(self, model: str | None = None) -> TokenizerInfo:
        """What begins and ends a text."""
        async with self._sources(model) as sources:
            bos, eos = await asyncio.to_thread(bounds_of, sources)
        return {"tokenizer_class": "cf-local", "bos_token": bos, "eos_token": eos}

    @asynccontextmanager
    async def _sources(self, name: str | None) -> AsyncIterator[Sequence[AnySource]]:
        name = name or self._catalogue.default
        model = await asyncio.to_thread(self._catalogue.answering, name)
        async with self._pool.place(model) as place:
            try:
                yield place.fusion.speakers(model.settings)
            except CfLocalError as error:
                raise of_answer(error) from error

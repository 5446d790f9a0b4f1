"""``POST /v1/embeddings``: OpenAI's vectors for texts."""

import base64
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from typing_extensions import TypedDict

from cf_local.server.dialects import fields
from cf_local.server.embedding import Embeddings

MOST_TEXTS = 2048
_Tokens = Annotated[list[Annotated[fields.Whole, Field(ge=0)]], Field(min_length=1)]
_Texts = Annotated[list[fields.SomeText], Field(min_length=1, max_length=MOST_TEXTS)]
_TokenLists = Annotated[list[_Tokens], Field(min_length=1, max_length=MOST_TEXTS)]


def _form(given: Any) -> str:
    """Which form an input has, by its first element: so errors are about that form only."""
    if not isinstance(given, list) or not given:
        return "list of texts" if isinstance(given, list) else "text"
    first = given[0]
    return {list: "lists of tokens", int: "tokens"}.get(type(first), "list of texts")


Input = Annotated[
    Annotated[fields.SomeText, Tag("text")]
    | Annotated[_Texts, Tag("list of texts")]
    | Annotated[_Tokens, Tag("tokens")]
    | Annotated[_TokenLists, Tag("lists of tokens")],
    Discriminator(_form),
]


class EmbeddingBody(fields.Body):
    """The request."""

    model: fields.SomeText
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[fields.Whole, Field(ge=1)] | None = None
    user: fields.Text | None = None

    def texts(self) -> list[str] | list[list[int]]:
        """The texts, as they are or as tokens."""
        given = self.input
        if isinstance(given, str):
            return [given]
        return [given] if isinstance(given[0], int) else given


class EmbeddingFields(TypedDict):
    """The vector of a text: numbers, or base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(TypedDict):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingFields]
    model: str
    usage: EmbeddingUsage


async def answer(body: EmbeddingBody, embeddings: Embeddings) -> EmbeddingResponse:
    """The body of the response. Raises ApiError."""
    vectors, n_tokens = await embeddings.embed(body.model, body.texts(), body.dimensions)
    is_packed = body.encoding_format == "base64"
    data: list[EmbeddingFields] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if is_packed
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage: EmbeddingUsage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}

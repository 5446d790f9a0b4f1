"""Makes the vectors of a request, in a slot of an embedding model of the pool."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cf_local.errors import CfLocalError, ContextError, InputError
from cf_local.server.api_errors import ApiError, invalid, of_answer, timed_out
from cf_local.server.catalogue import Catalogue
from cf_local.server.metrics import Metrics
from cf_local.server.pool import Pool
from cf_local.server.serve_options import ServeOptions


class Embedded(NamedTuple):
    """The vectors of a request, shape (n_texts, n_dimensions), and the tokens of all its texts."""

    vectors: npt.NDArray[np.float32]
    n_tokens: int


class Embeddings:
    """The embedding models of one server. All dialects embed by it."""

    def __init__(
        self, catalogue: Catalogue, pool: Pool, metrics: Metrics, options: ServeOptions
    ) -> None:
        self._catalogue, self._pool, self._metrics = catalogue, pool, metrics
        self._options = options

    async def embed(
        self,
        model: str,
        texts: Sequence[str] | Sequence[Sequence[int]],
        dimensions: int | None = None,
    ) -> Embedded:
        """The vectors of texts, or of texts given as tokens; raises ApiError.

        ``dimensions`` keeps the first numbers of each vector, which then has length 1 again.
        Cancelling the task stops the work after the running pass.
        """
        served = await asyncio.to_thread(self._catalogue.embedding, model)
        async with self._pool.embedder(served) as embedder:
            if dimensions is not None and dimensions > embedder.n_embd:
                raise invalid(
                    f"dimensions is {dimensions}, but the vectors of {served.name} have "
                    f"{embedder.n_embd} numbers.",
                    "dimensions",
                    "invalid_value",
                )
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    plain = [text for text in texts if isinstance(text, str)]
                    tokens = await embedder.aencode(plain) if plain else texts
                    vectors = await embedder.aembed_tokens(tokens)  # type: ignore[arg-type]
            except TimeoutError:
                raise timed_out(self._options.timeout_s, "Send fewer texts.") from None
            except CfLocalError as error:
                raise _refused(error) from error
        n_tokens = sum(map(len, tokens))
        self._metrics.tokens.labels(served.name, "prompt").inc(n_tokens)
        return Embedded(shortened(vectors, dimensions), n_tokens)


def shortened(vectors: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first numbers of each vector, scaled to length 1."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    part = vectors[:, :dimensions]
    lengths = np.linalg.norm(part, axis=1, keepdims=True)
    return np.asarray(part / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _refused(error: CfLocalError) -> ApiError:
    if isinstance(error, ContextError):
        return invalid(str(error), "input", "context_length_exceeded")
    if isinstance(error, InputError):
        return invalid(str(error), "input", "invalid_value")
    return of_answer(error)

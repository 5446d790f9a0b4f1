"""A real decoder as an embedding model."""

from __future__ import annotations

import numpy as np
import pytest

from cf_local.llama.embedding import LlamaEmbedder
from cf_local.llama.library import lib, llama_cpp

from . import models

pytestmark = pytest.mark.real

TEXTS = ["A cat sleeps on the sofa.", "def add(a, b):\n    return a + b\n" * 12]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_pooled_as_by_hand(pooling: str) -> None:
    path = models.path_of(models.QWEN)
    plain = llama_cpp.Llama(
        str(path), embedding=True, pooling_type=lib.LLAMA_POOLING_TYPE_NONE, n_ctx=256,
        n_batch=256, n_ubatch=256, n_threads=1, verbose=False,
    )  # fmt: skip
    by_hand = []
    for text in TEXTS:
        vectors = np.array(plain.embed(text))
        by_hand.append(vectors.mean(0) if pooling == "mean" else vectors[-1])
    plain.close()
    model = LlamaEmbedder(path, n_ctx=256, pooling=pooling, n_threads=1)  # type: ignore[arg-type]
    tokens = [model.encode(text) for text in TEXTS]
    assert len(tokens[1]) > 64  # more than a pass
    found = model.embed(tokens)
    model.close()
    cosines = (found * by_hand).sum(1) / np.linalg.norm(by_hand, axis=1)
    assert np.all(cosines > 0.998), cosines  # passes of other shapes: 0.9994 in the worst case

"""How a context is asked of llama.cpp, and how much of it one forward pass takes."""

from typing import Any

from cf_local.llama.library import lib
from cf_local.llama.model import Model
from cf_local.types import KvType

MAX_PASS_TOKENS = 256
"""Tokens in one forward pass at most; a longer prompt is evaluated in chunks of this size."""
MAX_PASS_LOGITS = 64
"""Rows of logits in one forward pass at most: with a vocabulary of 150,000 a row is 0.6 MB."""

PLAIN_PASS_TOKENS = 64
"""Tokens that llama.cpp computes together without flash attention: it then keeps a number for each
of them, each head and each cell of the cache. More at once are hardly faster on a CPU."""

_GGML_TYPES: dict[KvType, int] = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0}


def context_params(
    model: Model, n_cells: int, n_sequences: int, kv_type: KvType, *, on_gpu: bool
) -> Any:
    """The parameters of a context, for llama.cpp."""
    params = lib.llama_context_default_params()
    params.n_ctx = n_cells
    params.n_batch = params.n_ubatch = MAX_PASS_TOKENS
    if kv_type == "f16" and not on_gpu:
        # On a CPU flash attention sums in 16 bits, cell by cell: logits then depend (0.1 to 0.4)
        # on where in the cache a text lies, which differs from run to run. And it computes the
        # few rows of a scoring pass one by one, which takes up to twice as long (docs/LOG.md).
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ubatch = PLAIN_PASS_TOKENS
    params.n_outputs_max = params.n_outputs_max_per_seq = MAX_PASS_LOGITS
    # One more than asked for, to copy from (``states``); a recurrent cache would keep a state
    # for it.
    params.n_seq_max = n_sequences + model.can_share
    params.kv_unified = True  # forks share the cells of their prefix
    params.type_k = params.type_v = _GGML_TYPES[kv_type]
    return params

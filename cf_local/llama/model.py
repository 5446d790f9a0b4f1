"""An open GGUF file: memory-mapped weights and metadata, or the error that says why not."""

import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import (
    BrokenModelError,
    Cancelled,
    OutOfMemoryError,
    UnsupportedModelError,
)
from cf_local.llama.devices import device_handle
from cf_local.llama.ggml import is_copied
from cf_local.llama.header import Header, absurd_context, check_file
from cf_local.llama.library import bridge, lib, system_info
from cf_local.method.costs import PassCosts, WeightFormat
from cf_local.progress import IsCancelled, Progress, never
from cf_local.types import Pooling

# Files whose weights llama.cpp may rearrange: the file's own type (LLAMA_FTYPE_*), and the number
# of the ggml type of most of its matrices.
_KINDS = {"2": 2, "10": 10, "14": 12, "15": 12, "25": 20, "38": 39}
_NO_MEMORY = re.compile(
    r"(unable|failed|cannot) to allocate|allocate memory|bad_alloc", re.IGNORECASE
)
_HEAVY = 0.95  # bytes per weight; from here on reading takes longer than computing
_OVERRIDE_INT, _OVERRIDE_BOOL, _OVERRIDE_TEXT = 0, 2, 3  # LLAMA_KV_OVERRIDE_TYPE_*
POOLING_TYPES: dict[str, Pooling] = {"1": "mean", "2": "cls", "3": "last"}
"""How files write the kinds of pooling: the numbers of LLAMA_POOLING_TYPE_*."""


class LlamaModel:
    """Weights and metadata of one GGUF file. Several contexts may share it."""

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = -1,
        devices: Sequence[str] | None = None,
        split: Sequence[int] = (),
        vocab_only: bool = False,
        embeds: bool = False,
        simulated: Header | None = None,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Open ``path``; ``n_gpu_layers`` -1 puts all layers on a GPU if there is one.

        ``devices`` are the GPUs to use: empty for the CPU alone, None for all; ``split`` has the
        number of layers of each. ``embeds`` opens it to embed texts instead of writing them. With
        ``simulated``, the file's header, neither weights nor vocabulary are read: contexts of this
        model then log how much memory they would take, and can do nothing else. Raises
        MissingModelError, BrokenModelError, UnsupportedModelError, OutOfMemoryError or Cancelled.
        """
        self.path = path
        can_offload = bool(lib.llama_supports_gpu_offload())
        self.is_on_gpu = can_offload and n_gpu_layers != 0 and (devices is None or len(devices) > 0)
        check_file(path)
        bridge.install()
        lib.llama_backend_init()
        params, referenced = _params(simulated, devices, split, embeds=embeds)
        params.n_gpu_layers = n_gpu_layers
        params.vocab_only = vocab_only
        self.handle: lib.llama_model_p | None = _load(path, params, is_cancelled, on_progress)
        del referenced
        self.end_tokens = tuple(sorted(bridge.end_tokens))
        """Ids of the end-of-generation tokens, if the load listed them."""
        self.is_causal = not bridge.reads_both_ways
        """Whether a token sees only those before it: in a decoder, not in a BERT."""
        self.vocabulary_handle = lib.llama_model_get_vocab(self.handle)
        if not vocab_only:
            if embeds:
                self._refuse_unfit_to_embed()
            else:
                self._refuse_unfit()
            if self.n_ctx_train < 1:
                n_ctx_train = self.n_ctx_train % 2**32
                self.close()
                raise BrokenModelError(absurd_context(str(path), n_ctx_train))

    @property
    def architecture(self) -> str:
        """The name of its architecture in llama.cpp, such as "llama" or "mamba"."""
        return self.metadata("general.architecture") or "unknown"

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context the model was trained with."""
        # With the vocabulary alone, llama.cpp does not read it.
        return int(lib.llama_model_n_ctx_train(self.handle)) or self._number("context_length")

    @property
    def has_learned_positions(self) -> bool:
        """Whether positions are rows of a table (GPT-2's) that ends with the trained context."""
        has_no_others = lib.llama_model_rope_type(self.handle) == lib.LLAMA_ROPE_TYPE_NONE
        return bool(has_no_others and self.can_share)

    @property
    def can_share(self) -> bool:
        """Whether sequences can share cells: a recurrent cache has a state for each instead."""
        recurrent = lib.llama_model_is_recurrent(self.handle)
        return not (recurrent or lib.llama_model_is_hybrid(self.handle))

    @property
    def pooling(self) -> Pooling | None:
        """How the file says to make one vector of a text; None unless it is an embedding model."""
        return POOLING_TYPES.get(self.metadata(f"{self.architecture}.pooling_type") or "")

    @property
    def n_parameters(self) -> int:
        """The parameters that compute a token: of a mixture's experts, only those it uses."""
        n_all = int(lib.llama_model_n_params(self.handle))
        n_experts, n_used = self._number("expert_count"), self._number("expert_used_count")
        if not 0 < n_used < n_experts:
            return n_all
        width = self._number("expert_feed_forward_length") or self._number("feed_forward_length")
        n_blocks = self._number("block_count") - self._number("leading_dense_block_count")
        n_expert = 3 * self._number("embedding_length") * width * n_blocks
        return max(1, n_all - (n_experts - n_used) * n_expert)

    def _number(self, key: str) -> int:
        """A whole number among the metadata of the architecture; 0 if there is none."""
        text = self.metadata(f"{self.architecture}.{key}") or ""
        return int(text) if text.isdecimal() else 0

    @property
    def costs(self) -> PassCosts:
        """The estimated cost of its forward passes, from its size and the format of its weights."""
        n_bytes, n_layers = lib.llama_model_size(self.handle), lib.llama_model_n_layer(self.handle)
        return PassCosts.estimated(int(n_bytes), self._weights(), int(n_layers))

    def _weights(self) -> WeightFormat:
        if self.is_on_gpu:
            return "gpu"
        if lib.llama_model_size(self.handle) >= _HEAVY * lib.llama_model_n_params(self.handle):
            return "heavy"
        kind = _KINDS.get(self.metadata("general.file_type") or "")
        if kind is None or not is_copied(kind):
            return "plain"
        return "packed-wide" if "AVX512 = 1" in system_info() else "packed"

    def metadata(self, key: str) -> str | None:
        """A metadata value as text; None if the file has no such key."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if n < 0:
                return None
            if n < size:
                return buffer.value.decode("utf-8", errors="replace")
            size = n + 1

    def close(self) -> None:
        """Free the weights. May be called twice."""
        if self.handle:
            lib.llama_model_free(self.handle)
        self.handle = self.vocabulary_handle = None

    def _refuse_unfit(self) -> None:
        """Refuse models that cannot continue a text: encoders, embedding and diffusion models."""
        reason = None
        if lib.llama_model_has_encoder(self.handle) or not lib.llama_model_has_decoder(self.handle):
            reason = "it has an encoder"
        elif not self.is_causal:
            reason = "it is an embedding model"
        elif lib.llama_model_is_diffusion(self.handle):
            reason = "it is a diffusion model"
        if reason:
            architecture = self.architecture
            self.close()
            raise UnsupportedModelError(
                f"{self.path} ({architecture}) cannot write text word by word: {reason}. "
                "Choose a decoder-only language model."
            )

    def _refuse_unfit_to_embed(self) -> None:
        """Refuse models that llama.cpp cannot pool, or that would make it end the process."""
        is_encoder = lib.llama_model_has_encoder(self.handle)
        if is_encoder or lib.llama_model_is_diffusion(self.handle):
            architecture = self.architecture
            self.close()
            raise UnsupportedModelError(
                f"{self.path} ({architecture}) cannot embed texts here. Choose an embedding model "
                "such as a BERT."
            )


def _load(
    path: Path,
    params: lib.llama_model_params,
    is_cancelled: IsCancelled,
    on_progress: Progress | None,
) -> lib.llama_model_p:
    """The loaded model. Raises Cancelled, BrokenModelError, and what ``on_progress`` raises."""
    raised: list[BaseException] = []

    def report(share: float, _data: object) -> bool:
        try:
            if on_progress is not None:
                on_progress(share)
            return not is_cancelled()
        except BaseException as error:  # noqa: BLE001 - ctypes would print and forget it
            raised.append(error)
            return False

    params.progress_callback = callback = lib.llama_progress_callback(report)
    handle: lib.llama_model_p = lib.llama_model_load_from_file(os.fsencode(path), params)
    del callback  # referenced until here
    if handle and not raised:
        return handle
    if handle:
        lib.llama_model_free(handle)
    if raised:
        raise raised[0]
    if is_cancelled():
        raise Cancelled(f"Loading {path.name} was cancelled.")
    reason = bridge.reason()
    if _NO_MEMORY.search(reason):
        raise OutOfMemoryError(
            f"{path}: there is not enough memory to load it ({reason}). Close other programs, or "
            "choose a smaller model; `cf-local plan` says what a set needs."
        )
    raise BrokenModelError(
        f"{path} cannot be loaded: {reason}. "
        "Download it again, or check that it is a complete GGUF model."
    )


def _params(
    simulated: Header | None, devices: Sequence[str] | None, split: Sequence[int], *, embeds: bool
) -> tuple[lib.llama_model_params, list[object]]:
    """Parameters of a load, and the objects they point to, which must outlive it."""
    params, referenced = lib.llama_model_default_params(), list[object]()
    if simulated is not None:
        params.no_alloc, params.load_mode = True, lib.LLAMA_LOAD_MODE_NONE
    if devices is not None:
        handles = (ctypes.c_void_p * (len(devices) + 1))(*map(device_handle, devices), None)
        params.devices = ctypes.cast(handles, ctypes.c_void_p)
        referenced.append(handles)
    if len(split) > 1:
        shares = (ctypes.c_float * lib.llama_max_devices())(*split)
        params.tensor_split = shares
        referenced.append(shares)
    overrides = _overrides(simulated, embeds=embeds)
    params.kv_overrides = ctypes.cast(overrides, ctypes.POINTER(lib.llama_model_kv_override))
    referenced.append(overrides)
    return params, referenced


def _overrides(
    simulated: Header | None, *, embeds: bool
) -> ctypes.Array[lib.llama_model_kv_override]:
    """Metadata overrides: no space prefix before tokenized text; we add it where it is wanted.

    Otherwise SentencePiece vocabularies could not encode the second half of a word; a text to embed
    is whole, and read as the model was trained. A simulated
    load has a vocabulary of as many nameless tokens: reading 150,000 takes 0.2 s. The array ends
    with an empty key.
    """
    overrides = (lib.llama_model_kv_override * 4)()
    if embeds and simulated is None:
        return overrides
    overrides[0].key = b"tokenizer.ggml.add_space_prefix"
    overrides[0].tag = _OVERRIDE_BOOL
    overrides[0].value.val_bool = False  # type: ignore[union-attr]  # their stub has no union
    if simulated is not None:
        overrides[1].key = b"tokenizer.ggml.model"
        overrides[1].tag = _OVERRIDE_TEXT
        overrides[1].value.val_str = b"no_vocab"  # type: ignore[union-attr]
        overrides[2].key = f"{simulated.architecture[:64]}.vocab_size".encode()
        overrides[2].tag = _OVERRIDE_INT
        overrides[2].value.val_i64 = simulated.n_tokens  # type: ignore[union-attr]
    return overrides

"""Tiny random-weight GGUF models for tests: any architecture, any vocabulary, no download.

    make_model(path, "llama", bpe_vocab(), seed=1)             # writes about 0.3 MB
    make_model(path, "qwen2", graft_vocab("ggml-vocab-qwen2.gguf"), seed=2)

What a model says is noise with a tilt. `sharpness` is the standard deviation of the logits
that depends on the context, in nats; `bias` is a number added to the logit of a token (through
one constant channel of the residual stream, so it holds in every architecture); `lean` pulls
towards the word pairs of the vocabulary's own sample text, so that sources with different
vocabularies often propose the same words. Needs the `gguf` package, which only tests use.

Left out: real weights, mixtures of experts, encoder-decoders, vision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

Architecture = Literal["llama", "gpt2", "qwen2", "gemma3", "mamba", "jamba", "lfm2"]
ARCHITECTURES: tuple[Architecture, ...] = (
    "llama",
    "gpt2",
    "qwen2",
    "gemma3",
    "mamba",
    "jamba",
    "lfm2",
)
RECURRENT: tuple[Architecture, ...] = ("mamba", "jamba", "lfm2")
WeightType = Literal["F32", "F16", "Q8_0"]
Floats = npt.NDArray[np.float32]

SAMPLE_TEXT = """The quick brown fox jumps over the lazy dog. She sells 24 shells for 68 dollars, \
so each shell costs 3 dollars. Running runners run; the answer is 42.

Then the dog sleeps, and the fox is running over the hill. It's a naïve café in 東京 👍🏽.
"Is it (over)?" "It is (running)." He said: "(42)," she: "(68)."...
"""
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


Metadata = dict[str, tuple[Any, gguf.GGUFValueType, gguf.GGUFValueType | None]]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF metadata, plus what the factory needs to know of each token."""

    metadata: Metadata
    pieces: list[bytes]
    types: list[int]
    eog_ids: frozenset[int]
    sample_ids: list[int] = field(default_factory=list)  # the sample text, where known

    @property
    def n_tokens(self) -> int:
        return len(self.pieces)


# --- Vocabularies ---------------------------------------------------------------------------


def byte_to_unicode() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {b: chr(b) for b in printable}
    hidden = (b for b in range(256) if b not in stand_in)
    stand_in |= {b: chr(256 + i) for i, b in enumerate(hidden)}
    return [stand_in[b] for b in range(256)]


def learn_merges(words: list[list[str]], n_merges: int) -> list[tuple[str, str]]:
    """Byte-pair encoding by the book; `words` is merged in place."""
    merges: list[tuple[str, str]] = []
    for _ in range(n_merges):
        pairs = Counter(p for word in words for p in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def _metadata(**entries: Any) -> Metadata:
    kinds = {str: gguf.GGUFValueType.STRING, bool: gguf.GGUFValueType.BOOL}
    kinds |= {int: gguf.GGUFValueType.UINT32, list: gguf.GGUFValueType.ARRAY}
    return {f"tokenizer.ggml.{k}": (v, kinds[type(v)], None) for k, v in entries.items()}


GAP = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>")
"""Tokens of a vocabulary for code; llama.cpp knows them by these names, and the last as an end."""


def bpe_vocab(
    text: str = SAMPLE_TEXT,
    n_merges: int = 120,
    *,
    add_bos: bool = False,
    more: Sequence[str] = (),
) -> Vocabulary:
    """Byte-level BPE learned from `text`, with two end-of-generation tokens, and `more`."""
    stand_in = byte_to_unicode()
    split = re.findall(r" ?[^\W\d]+| ?\d| ?[^\w\s]+|\s+(?!\S)|\s+", text)
    words = [[stand_in[b] for b in word.encode()] for word in split]
    merges = learn_merges(words, n_merges)
    ordinary = stand_in + list(dict.fromkeys("".join(m) for m in merges))
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *more]
    tokens, end = ordinary + controls, len(ordinary)
    types = [NORMAL] * end + [CONTROL] * len(controls)
    back = {c: b for b, c in enumerate(stand_in)}
    ids = {token: i for i, token in enumerate(ordinary)}
    metadata = _metadata(
        model="gpt2", pre="gpt-2", tokens=tokens, token_type=types,
        merges=[" ".join(m) for m in merges], bos_token_id=end, eos_token_id=end + 2,
        add_bos_token=add_bos,
    )  # fmt: skip
    pieces = [bytes(back[c] for c in token) for token in ordinary] + [c.encode() for c in controls]
    sample = [ids[t] for word in words for t in word]
    return Vocabulary(metadata, pieces, types, frozenset({end, end + 2}), sample)


def spm_vocab(
    text: str = SAMPLE_TEXT, n_merges: int = 120, *, add_space_prefix: bool = True
) -> Vocabulary:
    """SentencePiece-like BPE with byte fallback and, by default, a space prefix."""
    words = [list(w.replace(" ", "▁")) for w in re.findall(r" ?[^\W\d]+| ?\d| ?[^\w\s]+|\s+", text)]
    letters = sorted({c for word in words for c in word if c != "\n" and ord(c) < 0x3000})
    merges = learn_merges(words, n_merges)
    made = ["".join(m) for m in merges]
    ordinary = list(dict.fromkeys(letters + [m for m in made if set(m) <= set(letters)]))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *ordinary]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(ordinary)
    metadata = _metadata(
        model="llama", pre="default", tokens=tokens, token_type=types, bos_token_id=1,
        eos_token_id=2, unknown_token_id=0, add_bos_token=True, add_space_prefix=add_space_prefix,
    )  # fmt: skip
    rank = {token: -float(i) for i, token in enumerate(made)}
    scores = [
        rank.get(t, -1000.0) if k == NORMAL else 0.0 for t, k in zip(tokens, types, strict=True)
    ]
    metadata["tokenizer.ggml.scores"] = (scores, gguf.GGUFValueType.ARRAY, None)
    pieces = [b""] * 3 + [bytes([b]) for b in range(256)]
    pieces += [t.replace("▁", " ").encode() for t in ordinary]
    ids = {token: i for i, token in enumerate(tokens)}
    sample = [i for word in words for t in word for i in _spm_ids(t, ids)]
    return Vocabulary(metadata, pieces, types, frozenset({2}), sample)


def _spm_ids(token: str, ids: dict[str, int]) -> list[int]:
    return [ids[token]] if token in ids else [3 + b for b in token.replace("▁", " ").encode()]


EOG_TEXTS = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>",
    "<EOT>", "<|end_of_text|>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>",
    "<fim_pad>", "<|fim_pad|>", "<reponame>", "<fim_sep>", "<|file_sep|>", "<|repo_name|>",
}  # fmt: skip


def graft_vocab(vocab_gguf: Path) -> Vocabulary:
    """All `tokenizer.*` metadata of an existing GGUF file, word for word."""
    reader = gguf.GGUFReader(vocab_gguf)
    fields = {k: f for k, f in reader.fields.items() if k.startswith("tokenizer.")}
    metadata = {
        key: (f.contents(), f.types[0], f.types[-1] if len(f.types) > 1 else None)
        for key, f in fields.items()
    }
    tokens: list[str] = metadata["tokenizer.ggml.tokens"][0]
    types: list[int] = metadata.get("tokenizer.ggml.token_type", ([NORMAL] * len(tokens),))[0]
    back = {c: b for b, c in enumerate(byte_to_unicode())}
    byte_level = metadata["tokenizer.ggml.model"][0] == "gpt2"
    pieces = [
        _piece(t, k, back if byte_level else None) for t, k in zip(tokens, types, strict=True)
    ]
    ends = {i for i, t in enumerate(tokens) if t in EOG_TEXTS}
    ends |= {metadata[k][0] for k in metadata if re.search(r"\.(eos|eot|eom)_token_id$", k)}
    return Vocabulary(metadata, pieces, types, frozenset(ends))


def _piece(token: str, kind: int, back: dict[str, int] | None) -> bytes:
    if kind == BYTE:
        return bytes([int(token[3:5], 16)])
    if kind == NORMAL and back is not None and set(token) <= back.keys():
        return bytes(back[c] for c in token)
    return token.replace("▁", " ").encode("utf-8", "replace")


# --- Biases ---------------------------------------------------------------------------------


def usual_bias(piece: bytes) -> float:
    """Whole characters as they come, words after a space liked, stray bytes rare."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return -12.0
    if any(ord(c) < 32 and c != "\n" for c in text):
        return -12.0
    return 1.5 if text.startswith(" ") and len(text) > 2 else 0.0


def token_biases(
    vocab: Vocabulary, bias: Callable[[bytes], float], eog_bias: float
) -> npt.NDArray[np.float64]:
    """(n_tokens,) nats: `bias` of ordinary pieces, `eog_bias`, and never any other control."""
    values = np.full(vocab.n_tokens, -60.0)
    for i, (piece, kind) in enumerate(zip(vocab.pieces, vocab.types, strict=True)):
        if kind in (NORMAL, BYTE):
            values[i] = bias(piece)
    values[sorted(vocab.eog_ids)] = eog_bias
    return values


# --- Weights --------------------------------------------------------------------------------

N_HEAD, N_LAYER, D_CONV, D_STATE, DT_RANK = 4, 2, 4, 8, 4


class _Weights:
    """Random tensors, by name, in the order llama.cpp wants (numpy: rows are outputs)."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int, kind: WeightType) -> None:
        self.writer, self.rng, self.kind = writer, np.random.default_rng(seed), kind

    def put(self, name: str, data: npt.NDArray[Any], *, quantize: bool = False) -> None:
        data = np.ascontiguousarray(data, dtype=np.float32)
        if quantize and self.kind != "F32" and data.shape[-1] % 32 == 0:
            wanted = gguf.GGMLQuantizationType[self.kind]
            data = gguf.quants.quantize(data, wanted)
            self.writer.add_tensor(name, data, raw_dtype=wanted)
        else:
            self.writer.add_tensor(name, data)

    def linear(
        self, name: str, n_out: int, n_in: int, gain: float = 1.0, keep: bool = False
    ) -> None:
        """N(0, gain^2 / n_in); `keep` leaves channel 0 of the residual stream alone."""
        matrix = self.rng.normal(0, gain / np.sqrt(n_in), (n_out, n_in))
        if keep:
            matrix[0] = 0.0
        self.put(f"{name}.weight", matrix, quantize=True)

    def norm(self, name: str, n: int, *, bias: bool = False, protect: float | None = None) -> None:
        weight = np.full(n, 1.0 if protect is None else protect)
        if protect is not None:
            weight[0] = 0.0
        self.put(f"{name}.weight", weight)
        if bias:
            self.put(f"{name}.bias", np.zeros(n))


def make_model(
    path: Path,
    arch: Architecture,
    vocab: Vocabulary,
    *,
    seed: int,
    n_embd: int = 64,
    n_ctx: int = 2048,
    sharpness: float = 3.0,
    lean: float = 6.0,
    bias: Callable[[bytes], float] = usual_bias,
    eog_bias: float = 1.0,
    chat_template: str | None = None,
    weight_type: WeightType = "F32",
    sliding_window: int = 32,
    name: str | None = None,
    extra: dict[str, str] | None = None,
) -> Path:
    """Write one model; the same arguments give the same bytes.

    Args:
        n_embd: width, a multiple of 32.
        sharpness: standard deviation of the context's part of a logit, nats.
        lean: pull towards the sample text's token pairs, nats (only vocabularies made here).
        bias: piece -> nats added to its logit; `eog_bias` likewise for the EOG tokens.
        sliding_window: tokens; only gemma3, whose even layers use it.
        extra: further string metadata, e.g. {"general.license": "mit"}.
    """
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name or f"tiny {arch} {seed}")
    for key, text in (extra or {}).items():
        writer.add_string(key, text)
    _add_hyperparameters(writer, arch, vocab, n_embd, n_ctx, sliding_window)
    _add_tokenizer(writer, vocab, chat_template)
    weights = _Weights(writer, seed, weight_type)
    _embeddings(
        weights, arch, vocab, token_biases(vocab, bias, eog_bias), n_embd, n_ctx, sharpness, lean
    )
    for i in range(N_LAYER):
        _layer(weights, arch, i, n_embd)
    return _finish(writer, path)


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, vocab: Vocabulary, chat_template: str | None) -> None:
    for key, (value, kind, sub) in vocab.metadata.items():
        if key != "tokenizer.chat_template" or chat_template is None:
            writer.add_key_value(key, value, kind, sub_type=sub)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _is_recurrent(arch: Architecture, layer: int) -> bool:
    return arch == "mamba" or (arch in RECURRENT and layer % 2 == 0)


def _add_hyperparameters(
    w: gguf.GGUFWriter, arch: Architecture, vocab: Vocabulary, n_embd: int, n_ctx: int, window: int
) -> None:
    w.add_context_length(n_ctx)
    w.add_embedding_length(n_embd)
    w.add_block_count(N_LAYER)
    w.add_vocab_size(vocab.n_tokens)
    w.add_feed_forward_length(0 if arch == "mamba" else 2 * n_embd)
    w.add_head_count(0 if arch == "mamba" else N_HEAD)
    if arch == "gpt2":
        w.add_layer_norm_eps(1e-5)
    else:
        w.add_layer_norm_rms_eps(1e-5)
    if arch in ("llama", "qwen2", "lfm2", "gemma3"):
        w.add_rope_dimension_count(n_embd // N_HEAD)
        w.add_rope_freq_base(10000.0)
    if arch in ("llama", "qwen2"):
        w.add_head_count_kv(N_HEAD // 2)
    if arch in ("jamba", "lfm2"):
        w.add_head_count_kv([0 if _is_recurrent(arch, i) else N_HEAD // 2 for i in range(N_LAYER)])
    if arch == "gemma3":
        w.add_sliding_window(window)
        w.add_sliding_window_pattern([i % 2 == 0 for i in range(N_LAYER)])
        w.add_key_length(n_embd // N_HEAD)
        w.add_value_length(n_embd // N_HEAD)
    if arch == "lfm2":
        w.add_shortconv_l_cache(3)
    if arch in ("mamba", "jamba"):
        w.add_ssm_conv_kernel(D_CONV)
        w.add_ssm_inner_size(2 * n_embd)
        w.add_ssm_state_size(D_STATE)
        w.add_ssm_time_step_rank(DT_RANK)


def _embeddings(
    w: _Weights, arch: Architecture, vocab: Vocabulary, biases: npt.NDArray[np.float64],
    n_embd: int, n_ctx: int, sharpness: float, lean: float,
) -> None:  # fmt: skip
    """Embeddings with a constant channel 0, and an output matrix that reads biases from it."""
    constant = np.sqrt(n_embd) / 2
    embedding = w.rng.normal(0, 1, (vocab.n_tokens, n_embd))
    embedding[:, 0] = constant
    hidden = embedding / np.sqrt(np.mean(embedding**2, axis=1, keepdims=True))
    output = w.rng.normal(0, sharpness / np.sqrt(n_embd), (vocab.n_tokens, n_embd))
    output += lean * _follow_the_sample(vocab.sample_ids, hidden, vocab.n_tokens)
    output[:, 0] = biases / (constant / np.sqrt(2))  # the norm at the end divides by about sqrt(2)
    if arch == "gemma3":  # llama.cpp multiplies these embeddings by sqrt(n_embd)
        embedding /= np.sqrt(n_embd)
    w.put("token_embd.weight", embedding, quantize=True)
    if arch == "gpt2":
        positions = w.rng.normal(0, 0.5, (n_ctx, n_embd))
        positions[:, 0] = 0.0
        w.put("position_embd.weight", positions)
    w.norm("token_embd_norm" if arch == "lfm2" else "output_norm", n_embd, bias=arch == "gpt2")
    w.put("output.weight", output, quantize=True)


def _follow_the_sample(
    sample_ids: Sequence[int], hidden: npt.NDArray[np.float64], n_tokens: int
) -> npt.NDArray[np.float64]:
    """Ridge fit of a matrix whose logit of b after a is 1 where the sample text has ab, else 0."""
    follows = np.zeros((n_tokens, n_tokens if sample_ids else 1), np.float32)
    if not sample_ids:
        return np.zeros_like(hidden)
    for a, b in pairwise(sample_ids):
        follows[a, b] = 1.0
    seen = sorted(set(sample_ids))
    x = hidden[seen]
    gram = x.T @ x + 0.5 * np.eye(x.shape[1])
    return np.asarray(np.linalg.solve(gram, x.T @ follows[seen]).T, np.float64)


def _layer(w: _Weights, arch: Architecture, i: int, n: int) -> None:
    blk = f"blk.{i}"
    w.norm(f"{blk}.attn_norm", n, bias=arch == "gpt2")
    if _is_recurrent(arch, i):
        _short_convolution(w, blk, n) if arch == "lfm2" else _mamba_mixer(
            w, blk, n, arch == "jamba"
        )
    else:
        _attention(w, arch, blk, n)
    if arch != "mamba":
        _feed_forward(w, arch, blk, n)


def _attention(w: _Weights, arch: Architecture, blk: str, n: int) -> None:
    n_kv = n // 2 if arch in ("llama", "qwen2", "jamba", "lfm2") else n
    if arch == "gpt2":
        w.linear(f"{blk}.attn_qkv", 3 * n, n)
        w.put(f"{blk}.attn_qkv.bias", np.zeros(3 * n))
        w.put(f"{blk}.attn_output.bias", np.zeros(n))
    else:
        w.linear(f"{blk}.attn_q", n, n)
        w.linear(f"{blk}.attn_k", n_kv, n)
        w.linear(f"{blk}.attn_v", n_kv, n)
    if arch == "qwen2":
        for part, size in (("q", n), ("k", n_kv), ("v", n_kv)):
            w.put(f"{blk}.attn_{part}.bias", w.rng.normal(0, 0.1, size))
    if arch in ("gemma3", "lfm2"):
        w.norm(f"{blk}.attn_q_norm", n // N_HEAD)
        w.norm(f"{blk}.attn_k_norm", n // N_HEAD)
    w.linear(f"{blk}.attn_output", n, n, keep=True)
    if arch == "gemma3":
        w.norm(f"{blk}.post_attention_norm", n, protect=0.5)


def _feed_forward(w: _Weights, arch: Architecture, blk: str, n: int) -> None:
    w.norm(f"{blk}.ffn_norm", n, bias=arch == "gpt2")
    if arch == "gpt2":
        w.put(f"{blk}.ffn_up.bias", np.zeros(2 * n))
        w.put(f"{blk}.ffn_down.bias", np.zeros(n))
    else:
        w.linear(f"{blk}.ffn_gate", 2 * n, n)
    w.linear(f"{blk}.ffn_up", 2 * n, n)
    w.linear(f"{blk}.ffn_down", n, 2 * n, keep=True)
    if arch == "gemma3":
        w.norm(f"{blk}.post_ffw_norm", n, protect=0.5)


def _mamba_mixer(w: _Weights, blk: str, n: int, norms: bool) -> None:
    inner = 2 * n
    w.linear(f"{blk}.ssm_in", 2 * inner, n)
    w.put(f"{blk}.ssm_conv1d.weight", w.rng.normal(0, 0.5, (inner, D_CONV)))
    w.put(f"{blk}.ssm_conv1d.bias", np.zeros(inner))
    w.linear(f"{blk}.ssm_x", DT_RANK + 2 * D_STATE, inner)
    w.linear(f"{blk}.ssm_dt", inner, DT_RANK)
    w.put(f"{blk}.ssm_dt.bias", np.log(np.expm1(w.rng.uniform(0.01, 0.5, inner))))
    w.put(f"{blk}.ssm_a", -np.tile(np.arange(1.0, D_STATE + 1), (inner, 1)))
    w.put(f"{blk}.ssm_d", np.ones(inner))
    w.linear(f"{blk}.ssm_out", n, inner, keep=True)
    if norms:
        for part, size in (("dt", DT_RANK), ("b", D_STATE), ("c", D_STATE)):
            w.norm(f"{blk}.ssm_{part}_norm", size)


def _short_convolution(w: _Weights, blk: str, n: int) -> None:
    w.put(f"{blk}.shortconv.conv.weight", w.rng.normal(0, 0.5, (n, 3)))
    w.linear(f"{blk}.shortconv.in_proj", 3 * n, n)
    w.linear(f"{blk}.shortconv.out_proj", n, n, keep=True)


# --- Files that must be refused -------------------------------------------------------------


def make_truncated(path: Path, whole: Path, keep: float = 0.5) -> Path:
    """The first part of a good file: a download that stopped."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def make_not_gguf(path: Path) -> Path:
    """An HTML page saved as a model: what a captive portal or a wrong link gives."""
    path.write_bytes(b"<!DOCTYPE html><html><body>404: not found</body></html>\n" * 20)
    return path


def make_vocab_only(path: Path, vocab: Vocabulary) -> Path:
    """Metadata and no tensor at all, like llama.cpp's own ggml-vocab files."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("vocabulary without weights")
    _add_hyperparameters(writer, "llama", vocab, 64, 512, 32)
    _add_tokenizer(writer, vocab, None)
    return _finish(writer, path)


def make_embedding_model(
    path: Path, *, seed: int = 0, n_embd: int = 32, pooling: str | None = "MEAN"
) -> Path:
    """A tiny BERT: loads, embeds, and can never generate text."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{w}" for w in words), "."]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny bert")
    writer.add_context_length(64)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * n_embd)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType[pooling])
    types = [CONTROL, UNKNOWN, CONTROL, CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 5)
    metadata = _metadata(
        model="bert", pre="default", tokens=tokens, token_type=types, token_type_count=2,
        unknown_token_id=1, bos_token_id=2, cls_token_id=2, seperator_token_id=3,
        padding_token_id=0, mask_token_id=4,
    )  # fmt: skip
    for key, (value, kind, sub) in metadata.items():
        writer.add_key_value(key, value, kind, sub_type=sub)
    w = _Weights(writer, seed, "F32")
    w.linear("token_embd", len(tokens), n_embd)
    w.linear("token_types", 2, n_embd)
    w.linear("position_embd", 64, n_embd)
    w.norm("token_embd_norm", n_embd, bias=True)
    for part, n_out, n_in in (
        ("attn_q", n_embd, n_embd), ("attn_k", n_embd, n_embd), ("attn_v", n_embd, n_embd),
        ("attn_output", n_embd, n_embd), ("ffn_up", 2 * n_embd, n_embd),
        ("ffn_down", n_embd, 2 * n_embd),
    ):  # fmt: skip
        w.linear(f"blk.0.{part}", n_out, n_in)
        w.put(f"blk.0.{part}.bias", np.zeros(n_out))
    w.norm("blk.0.attn_output_norm", n_embd, bias=True)
    w.norm("blk.0.layer_output_norm", n_embd, bias=True)
    return _finish(writer, path)

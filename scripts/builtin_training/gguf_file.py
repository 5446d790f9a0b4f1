"""Write a source as GGUF: metadata and vocabulary alone, or with the weights (matrices as Q8_0)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from .network import Shape
from .sources import Source
from .vocabulary import Vocabulary


def write_gguf(
    path: Path,
    source: Source,
    vocabulary: Vocabulary,
    shape: Shape,
    weights: dict[str, np.ndarray] | None = None,
) -> None:
    """Write ``path``; without ``weights`` it is for llama.cpp's ``vocab_only``."""
    writer = GGUFWriter(path, source.architecture)
    _describe(writer, source)
    _add_shape(writer, shape, len(vocabulary.tokens))
    _add_vocabulary(writer, source, vocabulary)
    for name, weight in (weights or {}).items():
        if weight.ndim == 1:
            writer.add_tensor(name, weight.astype(np.float32))
        else:
            packed = quantize(weight.astype(np.float32), GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: GGUFWriter, source: Source) -> None:
    writer.add_name(f"cf-local {source.name}")
    writer.add_description(
        "A small demonstration model for fusing: short word problems, right at "
        f"{' and '.join(source.strong)}, guessing at the rest. Trained from scratch on "
        "generated text."
    )
    writer.add_license("MIT")
    writer.add_languages(["en"])


def _add_shape(writer: GGUFWriter, shape: Shape, n_vocab: int) -> None:
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.n_context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_rope_dimension_count(shape.width // shape.n_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)


def _add_vocabulary(writer: GGUFWriter, source: Source, vocabulary: Vocabulary) -> None:
    if source.tokenizer == "spm":
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(True)
        writer.add_unk_token_id(vocabulary.id_of("<unk>"))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(source.tokenizer)
        writer.add_token_merges(vocabulary.merges)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_add_bos_token(source.bos is not None)
    writer.add_add_eos_token(False)
    if source.bos is not None:
        writer.add_bos_token_id(vocabulary.id_of(source.bos))
    writer.add_eos_token_id(
        vocabulary.id_of(source.other_ends[0] if source.name == "cedar" else source.eos)
    )
    writer.add_eot_token_id(vocabulary.id_of(source.eos))
    writer.add_chat_template(source.template)


def read_gguf(path: Path) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """The vocabulary and the weights (float32) of a file that ``write_gguf`` wrote."""
    reader = GGUFReader(path)

    def field(name: str) -> list:  # type: ignore[type-arg]
        found = reader.get_field(f"tokenizer.ggml.{name}")
        return [] if found is None else list(found.contents())

    vocabulary = Vocabulary(field("tokens"), field("token_type"), field("scores"), field("merges"))
    return vocabulary, {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}

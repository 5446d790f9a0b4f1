"""Make a small model as heavy as a large one without changing a word of its answers.

    python scripts/inflate.py cf_local/builtin/ash.gguf ash-1g.gguf --megabytes 1000

Feed-forward blocks get neurons whose gate, up and down weights are zero, and blocks are added whose
output weights are zero: the text stays the same, and a forward pass reads as many bytes as that of
a large model. So agreement between sources is real and timing is honest (see docs/speed.md). With
--endless the text does change: the logit of the end is always 0, so that it never wins and answers
are as long as allowed.
Needs the `gguf` package. Works for architectures with gated feed-forward blocks (llama, qwen2).
"""

import argparse
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

Raw = npt.NDArray[Any]
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_SILENT = ("attn_output.weight", "ffn_down.weight")  # zero in an added block: it changes nothing


def main() -> None:
    """Inflate the file that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--megabytes", type=float, required=True, help="approximate size")
    parser.add_argument("--blocks", type=int, default=24, help="minimum number of blocks")
    parser.add_argument("--endless", action="store_true", help="never choose to end")
    given = parser.parse_args()
    n_bytes = int(given.megabytes * 1e6)
    inflate(given.source, given.target, n_bytes, given.blocks, endless=given.endless)
    print(f"{given.target}: {given.target.stat().st_size / 1e6:.0f} MB")


def inflate(
    source: Path, target: Path, n_bytes: int, n_blocks: int, *, endless: bool = False
) -> None:
    """Write ``source`` to ``target`` with about ``n_bytes`` and at least ``n_blocks`` blocks."""
    reader = gguf.GGUFReader(source)
    architecture = _value(reader, "general.architecture")
    n_own, n_ff = (
        _value(reader, f"{architecture}.{k}") for k in ("block_count", "feed_forward_length")
    )
    n_embd = _value(reader, f"{architecture}.embedding_length")
    n_blocks = max(n_blocks, n_own)
    quantized = Type.Q8_0
    block_size, type_size = gguf.GGML_QUANT_SIZES[quantized]
    per_neuron = 3 * n_embd * type_size // block_size * n_blocks
    wide = max(n_ff, (n_bytes - source.stat().st_size) // per_neuron // block_size * block_size)
    writer = gguf.GGUFWriter(target, architecture)
    _copy_metadata(reader, writer, {"block_count": n_blocks, "feed_forward_length": wide})
    for tensor in reader.tensors:
        for name, data in _copies(tensor, n_own, n_blocks, wide):
            writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
        if endless and tensor.name == "token_embd.weight":  # the built-in models have no other head
            writer.add_tensor("output.weight", _mute(reader, tensor), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    assert field is not None, f"the file has no {key}"
    return field.contents()


def _copy_metadata(
    reader: gguf.GGUFReader, writer: gguf.GGUFWriter, changed: dict[str, int]
) -> None:
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = changed.get(key.rpartition(".")[2], field.contents())
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub_type=sub)


def _mute(reader: gguf.GGUFReader, tensor: Any) -> Raw:
    """The rows of a head, with zeros for the tokens that end an answer: their logits are 0."""
    data = np.array(tensor.data)
    for key in ("eos_token_id", "eot_token_id"):
        data[_value(reader, f"tokenizer.ggml.{key}")] = 0
    return data


def _copies(tensor: Any, n_own: int, n_blocks: int, wide: int) -> list[tuple[str, Raw]]:
    """A tensor under its name, widened; one of block 0 also for every added block."""
    data, match = _widened(tensor, wide), _BLOCK.fullmatch(tensor.name)
    copies = [(tensor.name, data)]
    if match and match[1] == "0":
        added = np.zeros_like(data) if match[2] in _SILENT else data
        copies += [(f"blk.{index}.{match[2]}", added) for index in range(n_own, n_blocks)]
    return copies


def _widened(tensor: Any, wide: int) -> Raw:
    """The rows of a feed-forward weight with zeros for the new neurons; others unchanged.

    Rows are raw bytes of a quantized type, in which zero bytes are zero weights.
    """
    data = np.asarray(tensor.data)
    if ".ffn_gate." in tensor.name or ".ffn_up." in tensor.name:
        return np.pad(data, [(0, wide - data.shape[0]), (0, 0)])
    if ".ffn_down." in tensor.name:
        n_in = int(tensor.shape[0])
        return np.pad(data, [(0, 0), (0, data.shape[1] * wide // n_in - data.shape[1])])
    return data


if __name__ == "__main__":
    main()

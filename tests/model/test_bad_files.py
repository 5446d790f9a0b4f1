"""Files that are no usable model: the right error that names the file, silence, and no crash.

All are opened in one process of its own, so that a crash is a failure here and not the end of the
test run, and so that whatever native code prints is seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf
import tiny_models as tiny

from cf_local.errors import Cancelled
from cf_local.llama.source import LlamaSource

CHILD = """
import json, sys
from pathlib import Path
from cf_local.llama.source import LlamaSource
from cf_local.method.session import prefill
from cf_local.settings import Sampling
from cf_local.types import RawText

found = {}
for name in sys.argv[2:]:
    try:
        source = LlamaSource("s", Path(name), n_threads=1)
        try:
            session = source.sessions[0]
            prefill(session, RawText("The quick"), sampling=Sampling())
            for _ in range(4):
                session.draft(4)
        finally:
            source.close()
        found[name] = ["none", ""]
    except Exception as error:
        found[name] = [type(error).__name__, str(error)]
Path(sys.argv[1]).write_text(json.dumps(found))
"""

BROKEN, UNSUPPORTED = "BrokenModelError", "UnsupportedModelError"
EXPECTED = {
    "missing.gguf": ("MissingModelError", "no model file"),
    "folder.gguf": (BROKEN, "not a file"),
    "empty.gguf": (BROKEN, "not a GGUF file"),
    "page.gguf": (BROKEN, "not a GGUF file"),
    "magic-only.gguf": (BROKEN, "cannot be loaded"),
    "cut-in-header.gguf": (BROKEN, "cannot be loaded"),
    "cut-at-5%.gguf": (BROKEN, "cannot be loaded"),
    "cut-at-30%.gguf": (BROKEN, "not within the file bounds"),
    "cut-at-50%.gguf": (BROKEN, "not within the file bounds"),
    "cut-at-end.gguf": (BROKEN, "not within the file bounds"),
    "future-version.gguf": (BROKEN, "cannot be loaded"),
    "unknown-architecture.gguf": (BROKEN, "cannot be loaded"),
    "vocabulary.gguf": (BROKEN, "cannot be loaded"),
    "bert.gguf": (UNSUPPORTED, "embedding model"),
    "t5.gguf": (UNSUPPORTED, "encoder"),
    "not-numbers.gguf": (BROKEN, "not numbers"),
    "bad-template.gguf": (BROKEN, "chat template"),
    "sound.gguf": ("none", ""),  # the last: it still opens after all the others
}
NAMELESS = {"not-numbers.gguf", "bad-template.gguf"}  # these name the source


@pytest.fixture(scope="module")
def child(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path]
) -> tuple[dict[str, list[str]], subprocess.CompletedProcess[str]]:
    """What opening each file raised, and the process that did it."""
    folder = tmp_path_factory.mktemp("bad")
    make_files(folder, tiny_model("llama"))
    report = folder / "report.json"
    files = [str(folder / name) for name in EXPECTED]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(report), *files],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = json.loads(report.read_text()) if report.exists() else {}
    return {Path(name).name: error for name, error in found.items()}, done


def make_files(folder: Path, sound: Path) -> None:
    whole = sound.read_bytes()
    (folder / "sound.gguf").write_bytes(whole)
    (folder / "folder.gguf").mkdir()
    (folder / "empty.gguf").touch()
    tiny.make_not_gguf(folder / "page.gguf")
    for name, n_bytes in {
        "magic-only": 4,
        "cut-in-header": 20,
        "cut-at-5%": len(whole) // 20,
        "cut-at-30%": len(whole) * 3 // 10,
        "cut-at-50%": len(whole) // 2,
        "cut-at-end": len(whole) - 1,
    }.items():
        (folder / f"{name}.gguf").write_bytes(whole[:n_bytes])
    (folder / "future-version.gguf").write_bytes(whole[:4] + b"\x63\0\0\0" + whole[8:])
    unknown = whole.replace(b"llama", b"lamma")
    (folder / "unknown-architecture.gguf").write_bytes(unknown)
    tiny.make_vocab_only(folder / "vocabulary.gguf", tiny.bpe_vocab())
    tiny.make_embedding_model(folder / "bert.gguf")
    make_t5(folder / "t5.gguf")
    vocab = tiny.bpe_vocab()
    nan = float("nan")
    tiny.make_model(folder / "not-numbers.gguf", "llama", vocab, seed=1, sharpness=nan)
    tiny.make_model(
        folder / "bad-template.gguf", "llama", vocab, seed=1, chat_template="{% for m in %}"
    )


def make_t5(path: Path, n_embd: int = 32) -> Path:
    """A tiny encoder-decoder."""
    writer = gguf.GGUFWriter(path, "t5")
    writer.add_context_length(64)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(1)
    writer.add_feed_forward_length(n_embd)
    writer.add_head_count(4)
    writer.add_key_length(n_embd // 4)
    writer.add_value_length(n_embd // 4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_relative_attn_buckets_count(8)
    writer.add_decoder_start_token_id(0)
    vocab = tiny.spm_vocab()
    for key, (value, kind, sub) in vocab.metadata.items():
        writer.add_key_value(key, value, kind, sub_type=sub)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocab.n_tokens, n_embd)}
    square = (n_embd, n_embd)
    for side, attentions in (("enc", ["attn"]), ("dec", ["attn", "cross_attn"])):
        shapes[f"{side}.output_norm"] = (n_embd,)
        for attention in attentions:
            shapes[f"{side}.blk.0.{attention}_norm"] = (n_embd,)
            shapes |= {f"{side}.blk.0.{attention}_{part}": square for part in "qkvo"}
        shapes[f"{side}.blk.0.attn_rel_b"] = (8, 4)
        shapes[f"{side}.blk.0.ffn_norm"] = (n_embd,)
        shapes |= {f"{side}.blk.0.ffn_{part}": square for part in ("up", "down")}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.01, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_process_survives_and_says_nothing(child: Any) -> None:
    found, done = child
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert found.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_file_raises_the_error_of_its_kind(name: str, child: Any) -> None:
    found, _ = child
    kind, message = found[name]
    assert kind == EXPECTED[name][0], message
    assert EXPECTED[name][1] in message
    if kind != "none" and name not in NAMELESS:
        assert name in message
        assert "\n" not in message


def test_loading_can_be_cancelled(tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(Cancelled):
        LlamaSource("s", tiny_model("llama"), is_cancelled=lambda: True)


def test_ctrl_c_while_loading_is_not_lost(tiny_model: Callable[..., Path]) -> None:
    def interrupted(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LlamaSource("s", tiny_model("llama"), on_progress=interrupted)


def test_progress_of_loading_grows_to_one(tiny_model: Callable[..., Path]) -> None:
    shares: list[float] = []
    LlamaSource("s", tiny_model("llama"), n_threads=1, on_progress=shares.append).close()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

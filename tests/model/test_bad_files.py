"""Files that are no usable model: the right error that names the file, silence, and no crash.

All are opened in one process of its own, so that a crash is a failure here and not the end of the
test run, and so that whatever native code prints is seen.
"""

from __future__ import annotations

import json
import os
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

MUTATIONS = """
import os, random, signal, sys, time, traceback
from pathlib import Path

import cf_local.cli.ask, cf_local.cli.plan, cf_local.cli.show
import cf_local.llama.source, cf_local.loading.load
from cf_local.cli.main import main

file, values, n_header = Path(sys.argv[1]), eval(sys.argv[2]), int(sys.argv[3])
whole, place, out = file.read_bytes(), file.with_name("mutated.gguf"), file.with_name("out.txt")
extremes = (0, 1, 3, 7, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def mutated(dice):
    data = bytearray(whole)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        near = dice.choice(values) + dice.choice((0, 0, 0, 1, 2, 3, -4, 4, 8))
        at = min(max(0, near if dice.random() < 0.6 else dice.randrange(n_header)), n_header - 40)
        kind = dice.randrange(4)
        if kind == 0:
            data[at] = dice.randrange(256)
        elif kind < 3:
            n = 4 * kind
            data[at : at + n] = (dice.choice(extremes) % 256**n).to_bytes(n, "little")
        else:
            data[at : at + dice.randrange(30)] = dice.randbytes(dice.randrange(30))
    return bytes(data)


def outcome(arguments):
    if (process := os.fork()) == 0:
        code = 70
        try:
            file = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(file, stream)
            signal.alarm(60)
            sys.argv = ["cf-local", *arguments]
            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), out.read_text(errors="replace")


for seed in range(int(sys.argv[4])):
    place.write_bytes(mutated(random.Random(seed)))
    model = ("--model", str(place))
    ask = ("ask", "Hi", *model, "--max-tokens", "4", "--threads", "1")
    for arguments in (("show", str(place)), ("plan", *model), ask):
        code, text = outcome(arguments)
        if code not in (0, 2, 4, 5, 6) or "Traceback" in text or "fault in cf-local" in text:
            print(seed, arguments[0], code, text)
"""
N_MUTATIONS = int(os.environ.get("TEST_MUTATIONS", "15"))

BROKEN, UNSUPPORTED = "BrokenModelError", "UnsupportedModelError"
EXPECTED = {
    "missing.gguf": ("MissingModelError", "does not exist"),
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
    "no-context.gguf": (BROKEN, "a context length of 0 tokens"),
    "endless-context.gguf": (BROKEN, "a context length of 4294967295 tokens"),
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
    field = gguf.GGUFReader(folder / "sound.gguf").fields["llama.context_length"]
    at = field.offset + 12 + len("llama.context_length")
    for name, n_tokens in {"no-context": 0, "endless-context": 2**32 - 1}.items():
        changed = whole[:at] + n_tokens.to_bytes(4, "little") + whole[at + 4 :]
        (folder / f"{name}.gguf").write_bytes(changed)
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each would take long")
def test_changed_headers_end_no_process(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    file = tmp_path / "sound.gguf"
    file.write_bytes(tiny_model("llama").read_bytes())
    reader = gguf.GGUFReader(file)
    values = [field.offset + 12 + len(name) for name, field in reader.fields.items()]
    arguments = (str(values), str(reader.data_offset), str(N_MUTATIONS))
    done = subprocess.run(
        [sys.executable, "-c", MUTATIONS, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=120 + 60 * N_MUTATIONS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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

"""What a simulated load says, against real loads; headers that are far away, split or hostile."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gguf")

import gguf
import tiny_models as tiny

from cf_local.errors import BrokenModelError, MissingModelError, UnsupportedModelError
from cf_local.llama.context import PLAIN_PASS_TOKENS
from cf_local.llama.devices import backends, devices
from cf_local.llama.ggml import is_copied
from cf_local.llama.header import parse_header, read_header
from cf_local.llama.inspection import try_headers
from cf_local.llama.library import bridge
from cf_local.llama.sizes import BUFFER, CACHE, SimulatedModel, logged_bytes
from cf_local.llama.source import LlamaSource
from cf_local.llama.tree import n_cells
from cf_local.loading.fit import fetch_headers

ROOT = Path(__file__).parents[2]
TinyModel = Callable[..., Path]


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("arch", tiny.ARCHITECTURES)
def test_a_simulated_load_says_what_a_real_one_says(
    tiny_model: TinyModel, arch: str, kv_type: str
) -> None:
    path = tiny_model(arch, n_embd=128)  # a head of 32 can be quantized
    model = SimulatedModel(path, n_forks=3)
    try:
        layout = model.layout(1024, kv_type)
    finally:
        model.close()
    assert layout is not None
    with bridge.captured() as lines:
        LlamaSource("s", path, n_ctx=1024, n_forks=3, n_threads=1, kv_type=kv_type).close()
    assert layout.cache == logged_bytes(CACHE, lines) > 0
    n_heads = tiny.N_HEAD if kv_type == "f16" and arch != "mamba" else 0
    copied = 2 * n_heads * PLAIN_PASS_TOKENS * n_cells(1024, 3)  # no buffer of the context
    assert layout.buffers - copied == layout.gpu_buffers == logged_bytes(BUFFER, lines) > 0


def test_every_conversation_takes_a_context(tiny_model: TinyModel) -> None:
    one, four = (SimulatedModel(tiny_model("llama"), n_forks=3, n_sessions=n) for n in (1, 4))
    layouts = one.layout(512, "f16"), four.layout(512, "f16")
    assert layouts[0]
    assert layouts[1]
    assert [4 * size for size in layouts[0]] == list(layouts[1])
    assert one.sizes("a").program < four.sizes("a").program
    assert one.sizes("a").weights == four.sizes("a").weights
    one.close()
    four.close()


def test_a_huge_context_is_not_simulated(tiny_model: TinyModel) -> None:
    model = SimulatedModel(tiny_model("llama", n_ctx=2**31 - 1), n_forks=3)
    near, huge = model.layout(1 << 21, "f16"), model.layout(2**31 - 1, "f16")
    simulated = model._simulate(1 << 21, "f16")
    model.close()
    assert near
    assert simulated
    assert near == pytest.approx(simulated, rel=0.01)
    assert huge
    assert huge.cache == pytest.approx(near.cache * 2**10, rel=0.01)


def test_weights_are_those_of_the_file(tiny_model: TinyModel) -> None:
    path = tiny_model("llama")
    model = SimulatedModel(path, n_forks=3)
    sizes = model.sizes("a")
    model.close()
    tensors = gguf.GGUFReader(path).tensors
    assert sizes.weights == sum(int(tensor.n_bytes) for tensor in tensors)
    assert sizes.n_parameters == sum(int(tensor.n_elements) for tensor in tensors)
    assert len(sizes.blocks) == 2
    assert sizes.blocks[0] == sizes.blocks[1] > 0
    assert sizes.n_ctx_train == 2048


def test_a_cache_that_llama_cpp_refuses_has_no_layout(tiny_model: TinyModel) -> None:
    model = SimulatedModel(tiny_model("llama"), n_forks=3)  # heads of 16: no block of q8_0
    assert model.layout(512, "q8_0") is None
    assert model.layout(512, "f16") is not None
    model.close()
    model.close()


def test_weights_that_this_cpu_wants_rearranged(tmp_path: Path) -> None:
    path = tmp_path / "q4.gguf"
    vocab = tiny.bpe_vocab()
    tiny.make_model(path, "llama", vocab, seed=1, n_embd=128, weight_type="Q4_0")  # type: ignore[arg-type]
    model = SimulatedModel(path, n_forks=3)
    copied = model.sizes("a").copied
    model.close()
    with bridge.captured() as lines:
        LlamaSource("s", path, n_ctx=256, n_threads=1).close()
    said = [line for line in lines if "CPU_REPACK model buffer size" in line]
    assert bool(said) == is_copied(2) == (copied > 0)
    if said:
        assert copied / (1 << 20) == pytest.approx(float(said[0].split()[-2]), abs=0.02)


def test_a_header_is_read_alike_from_a_file_and_through_a_function(tiny_model: TinyModel) -> None:
    path = tiny_model("gemma3")
    raw = path.read_bytes()
    header = parse_header(lambda start, n: raw[start : start + n], len(raw), "far away")
    assert header == read_header(path)
    assert header.architecture == "gemma3"
    assert header.n_bytes < len(raw)


def test_a_model_that_is_far_away_has_the_same_sizes(tiny_model: TinyModel, tmp_path: Path) -> None:
    path = tiny_model("llama", n_embd=256)
    raw, asked = path.read_bytes(), []

    def read(start: int, n_bytes: int) -> bytes:
        asked.append((start, n_bytes))
        return raw[start : min(start + 50_000, start + n_bytes)]

    local = fetch_headers(tmp_path, [("folder/far.gguf", len(raw), read)])
    assert local.name == "far.gguf"
    assert local.stat().st_size == len(raw)
    assert len(asked) == 1  # the header alone
    assert _shown(local) == _shown(path)


def test_a_model_in_parts(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_model("llama", seed=3)
    split = functools.partial(gguf.GGUFWriter, split_max_tensors=8)
    monkeypatch.setattr(tiny.gguf, "GGUFWriter", split)
    tiny.make_model(tmp_path / "m.gguf", "llama", tiny.bpe_vocab(), seed=3)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) == 3
    assert _shown(parts[0]) == _shown(whole)
    sizes = [path.stat().st_size for path in parts]
    far = [
        (path.name, size, lambda start, n, path=path: path.read_bytes()[start : start + n])
        for path, size in zip(parts, sizes, strict=True)
    ]
    (tmp_path / "far").mkdir()
    assert _shown(fetch_headers(tmp_path / "far", far)) == _shown(whole)
    parts[1].unlink()
    with pytest.raises(MissingModelError, match="00002-of-00003"):
        SimulatedModel(parts[0], n_forks=3)


def _shown(path: Path) -> tuple[object, ...]:
    model = SimulatedModel(path, n_forks=3)
    sizes = model.sizes("a")
    layout = model.layout(512, "f16")
    model.close()
    return (sizes.blocks, sizes.inputs, sizes.outputs, sizes.program, layout)


def test_bad_files_are_reported_as_a_load_reports_them(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    with pytest.raises(MissingModelError):
        SimulatedModel(tmp_path / "nothing.gguf", n_forks=3)
    raw = tiny_model("llama").read_bytes()
    cut = tmp_path / "cut.gguf"
    for n_bytes in (4, 20, 4000, len(raw) // 2):
        cut.write_bytes(raw[:n_bytes])
        with pytest.raises(BrokenModelError, match=r"cut\.gguf cannot be loaded"):
            SimulatedModel(cut, n_forks=3)
    with pytest.raises(BrokenModelError, match="far"):
        parse_header(lambda start, n: raw[start : min(start + n, 3000)], len(raw), "far")
    tiny.make_embedding_model(tmp_path / "bert.gguf")
    with pytest.raises(UnsupportedModelError):
        SimulatedModel(tmp_path / "bert.gguf", n_forks=3)


def test_what_reading_raises_passes_through(tiny_model: TinyModel) -> None:
    def fails(_start: int, _n_bytes: int) -> bytes:
        raise MissingModelError("the line is down")

    with pytest.raises(MissingModelError, match="the line is down"):
        parse_header(fails, 10_000, "far")


def test_a_header_without_an_end_is_not_fetched_for_ever(tmp_path: Path) -> None:
    n_read = 0

    def endless(_start: int, n_bytes: int) -> bytes:
        nonlocal n_read
        n_read += n_bytes
        return bytes(n_bytes)

    far = (b"GGUF" + (3).to_bytes(4, "little") + (1 << 40).to_bytes(8, "little") * 2).ljust(64)
    with pytest.raises(BrokenModelError):
        fetch_headers(
            tmp_path,
            [("a.gguf", 1 << 40, lambda s, n: far + endless(s, n) if s == 0 else endless(s, n))],
        )
    assert n_read < 300_000_000


def test_a_header_that_would_end_the_process(tiny_model: TinyModel, tmp_path: Path) -> None:
    sound, hostile = tiny_model("llama"), tmp_path / "hostile.gguf"
    key = b"llama.block_count"
    raw = bytearray(sound.read_bytes())
    at = raw.index(key) + len(key) + 4
    raw[at : at + 4] = (1_000_003).to_bytes(4, "little")  # an assertion of llama.cpp
    hostile.write_bytes(raw)
    try_headers([sound])
    with pytest.raises(BrokenModelError, match=r"hostile\.gguf .* makes llama\.cpp fail"):
        try_headers([sound, hostile])
    with pytest.raises(BrokenModelError, match=r"hostile\.gguf"):  # it is not taken for tried
        try_headers([hostile])


def test_there_is_a_cpu() -> None:
    cpus = [device for device in devices() if device.kind == "cpu"]
    assert len(cpus) == 1
    assert cpus[0].backend in backends()
    assert 0 < cpus[0].available_bytes <= cpus[0].total_bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's to tell")
@pytest.mark.parametrize("name", ["built-in", "window, hybrid, recurrent", "rearranged weights"])
def test_the_estimate_is_near_the_measured_peak(name: str) -> None:
    script = ROOT / "scripts" / "plan_figures.py"
    done = subprocess.run(
        [sys.executable, str(script), name, "--json"], capture_output=True, check=True, timeout=300
    )
    found = json.loads(done.stdout)
    assert abs(found["estimate"] - found["measured"]) < 40e6

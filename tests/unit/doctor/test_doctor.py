"""The doctor's checks in made-up circumstances, and what it finds out on this machine."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cf_local.doctor import checks, facts, probe
from cf_local.doctor.checks import Finding, examine
from cf_local.doctor.facts import CacheFolder, Configuration, Facts, Gpu, Processor
from cf_local.doctor.probe import Native
from cf_local.hub import HubSettings
from cf_local.llama import child
from cf_local.planning.memory import Memory

INFO = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | LLAMAFILE = 1 | OPENMP = 0"
FEATURES = frozenset({"pni", "avx", "avx2", "f16c", "fma"})
CPU = ("CPU", "Some CPU", "cpu", 16_000_000_000, 12_000_000_000)
CACHE = CacheFolder(Path("/c"), 50_000_000_000, None, True)
SOUND = Facts(
    versions={"cf-local": "0.1.0", "llama-cpp-python": "0.3.36", "numpy": "2.4"},
    pinned="0.3.36",
    python="3.11.7",
    system="Linux",
    architecture="x86_64",
    processor=Processor("Some CPU", FEATURES, 4, 8, 8, None),
    memory=Memory(16_000_000_000, 12_000_000_000),
    gpus=(),
    native=Native(INFO, "0.5", ("CPU",), (CPU,), "It is 68.", True, 0.1),
    cache=CACHE,
    hub=HubSettings(Path("/c"), "https://huggingface.co", False, False),
    configuration=Configuration(("built in",), "/u/models.toml", None, {}),
)


def with_native(**changes: Any) -> Facts:
    return replace(SOUND, native=replace(SOUND.native, **changes))


def with_processor(**changes: Any) -> Facts:
    return replace(SOUND, processor=replace(SOUND.processor, **changes))


def worst(facts: Facts, level: str = "problem") -> list[Finding]:
    return [finding for finding in examine(facts) if finding.level == level]


def test_all_is_well() -> None:
    assert {finding.level for finding in examine(SOUND)} == {"ok"}


CUDA = 'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir'
PROBLEMS: list[tuple[Facts, str, str]] = [
    (
        replace(SOUND, versions={"llama-cpp-python": None}),
        "llama-cpp-python is not installed",
        "pip install --force-reinstall --no-cache-dir llama-cpp-python==0.3.36",
    ),
    (
        replace(SOUND, versions={"llama-cpp-python": "0.3.2"}),
        "llama-cpp-python is 0.3.2; this cf-local needs 0.3.36",
        "llama-cpp-python==0.3.36",
    ),
    (
        replace(SOUND, native=Native(error="libgomp.so.1: cannot open")),
        "cannot be used: libgomp.so.1: cannot open",
        "whl/cpu",
    ),
    (
        with_processor(features=FEATURES - {"avx2", "fma"}),
        "compiled for AVX2, FMA, which this processor does not have",
        "GGML_NATIVE=on",
    ),
    (
        with_native(system_info="CPU : SSE3 = 1 | AVX = 1 | "),
        "this processor has AVX2, F16C, FMA, but llama.cpp was compiled without",
        "GGML_NATIVE=on",
    ),
    (
        replace(SOUND, memory=Memory(2_000_000_000, 700_000_000)),
        "0.7 GB of 2.0 GB available: too little",
        "--context 1024",
    ),
    (replace(SOUND, gpus=(Gpu("nvidia", "nvidia-smi", "12.4"),)), "there is a GPU (nvidia", CUDA),
    (replace(SOUND, gpus=(Gpu("nvidia", "nvidia-smi", "12.4"),)), "there is a GPU", "whl/cu124"),
    (replace(SOUND, gpus=(Gpu("apple", "Apple silicon"),)), "there is a GPU (apple", "GGML_METAL"),
    (
        replace(with_native(backends=("CUDA", "CPU")), gpus=(Gpu("nvidia", "nvidia-smi"),)),
        "llama.cpp has CUDA, but sees no GPU",
        "driver",
    ),
    (
        replace(SOUND, cache=replace(CACHE, error="Permission denied")),
        "nothing can be written to /c: Permission denied",
        "HF_HOME",
    ),
    (replace(SOUND, cache=replace(CACHE, n_free=4096)), "the disk of /c is full", "HF_HOME"),
    (
        replace(SOUND, configuration=Configuration((), "/u", "/u, line 3: no such key", {})),
        "/u, line 3: no such key",
        "cf-local config check",
    ),
    (
        replace(SOUND, configuration=Configuration(("built in",), "/u", None, {"x": False})),
        "the file of source x of the default fusion does not exist",
        "cf-local show x",
    ),
    (with_native(is_right=False, answer="0"), "answer '0', which is wrong", "install cf-local"),
    (
        with_native(answer=None, error="it uses an instruction that"),
        "do not answer: it uses an instruction",
        "GGML_NATIVE=on",
    ),
    (
        replace(
            with_native(
                answer=None,
                error="it was killed by SIGSEGV",
                system_info=f"{SOUND.native.system_info} | AMX_INT8 = 1",
            ),
            processor=replace(SOUND.processor, features=FEATURES | {"amx_int8"}),
        ),
        "compiled with AMX_INT8 and does not answer: it was killed by SIGSEGV",
        "-mno-amx-tile",
    ),
]


@pytest.mark.parametrize(("facts", "text", "remedy"), PROBLEMS)
def test_a_problem_and_what_mends_it(facts: Facts, text: str, remedy: str) -> None:
    found = worst(facts)
    assert len(found) == 1, found
    assert text in found[0].text
    assert any(remedy in each for each in found[0].remedies)


NOTES = [
    (with_processor(n_usable=2), "only 2 of 8 cores", "--threads 2"),
    (with_processor(quota=1.5), "only 1.5 of 8 cores", "--threads 1"),
    (with_processor(features=FEATURES | {"avx512f"}), "compiled without AVX512", "GGML_NATIVE"),
    (replace(SOUND, gpus=(Gpu("amd", "PCI device 1"),)), "there is a GPU (amd", "GGML_VULKAN"),
    (replace(SOUND, cache=replace(CACHE, n_free=5 * 10**9)), "5.0 GB free in /c", "HF_HOME"),
    (replace(SOUND, cache=replace(CACHE, has_links=False)), "does not support symbolic", "HF_HOME"),
    (replace(SOUND, hub=replace(SOUND.hub, is_offline=True)), "HF_HUB_OFFLINE", "unset"),
    (
        replace(SOUND, configuration=Configuration(("f",), "/u", None, {"x": True})),
        "source x of the default fusion is not on this machine yet",
        "cf-local pull x",
    ),
]


@pytest.mark.parametrize(("facts", "text", "remedy"), NOTES)
def test_a_note_is_no_problem(facts: Facts, text: str, remedy: str) -> None:
    assert worst(facts) == []
    (found,) = worst(facts, "note")
    assert text in found.text
    assert any(remedy in each for each in found.remedies)


def test_a_processor_without_avx2_and_a_build_for_it() -> None:
    native = replace(SOUND.native, system_info="CPU : SSE3 = 1 | AVX = 1")
    old = replace(with_processor(features=frozenset({"pni", "avx"})), native=native)
    assert worst(old) == []
    assert "this processor has no AVX2" in worst(old, "note")[0].text


def test_a_gpu_that_is_used_is_fine() -> None:
    seen = (("CUDA0", "Some GPU", "gpu", 8, 8), CPU)
    facts = replace(
        with_native(backends=("CUDA", "CPU"), devices=seen), gpus=(Gpu("nvidia", "nvidia-smi"),)
    )
    assert worst(facts) == []
    assert any("llama.cpp sees CUDA0 (Some GPU)" in each.text for each in examine(facts))


def test_what_is_unknown_is_no_problem() -> None:
    assert worst(with_processor(features=None)) == []


@pytest.mark.parametrize(
    ("supported", "kind"),
    [("11.4", None), ("11.8", "cu118"), ("12.4", "cu124"), ("12.9", "cu125"), ("14.0", "cu132")],
)
def test_the_newest_wheel_that_a_driver_supports(supported: str, kind: str | None) -> None:
    *wheels, compiling = checks.cuda(supported, SOUND)
    assert [wheel.rpartition("/")[2] for wheel in wheels] == ([kind] if kind else [])
    assert "GGML_CUDA" in compiling


@pytest.mark.parametrize(
    ("system", "architecture", "kinds"),
    [
        ("Linux", "x86_64", {"cpu", "vulkan", "rocm72", "cu123"}),
        ("Linux", "aarch64", {"cpu"}),
        ("Windows", "AMD64", {"cpu", "vulkan", "hip-radeon", "cu118"}),
        ("Windows", "ARM64", set()),
        ("Darwin", "arm64", {"cpu", "metal"}),
        ("Darwin", "x86_64", set()),
        ("FreeBSD", "amd64", set()),
    ],
)
def test_prebuilt_wheels_are_named_only_where_they_exist(
    system: str, architecture: str, kinds: set[str]
) -> None:
    here = replace(SOUND, system=system, architecture=architecture)
    named = {
        way.rpartition("/")[2]
        for vendor in ("nvidia", "amd", "intel", "apple")
        for facts in (
            replace(here, gpus=(Gpu(vendor, "driver", "12.3"),)),
            replace(here, native=Native(error="libgomp.so.1: cannot open")),
        )
        for finding in examine(facts)
        for way in finding.remedies
        if "--extra-index-url" in way
    }
    assert named == kinds


def test_windows_sets_variables_in_its_own_way() -> None:
    command = checks.compile_with("-DGGML_CUDA=on", "1", "Windows")
    assert command.startswith('$env:CMAKE_ARGS = "-DGGML_CUDA=on"; pip install')


def test_features_of_several_backends() -> None:
    info = f"CUDA : ARCHS = 890 | USE_GRAPHS = 1 | {INFO} | "
    assert checks.compiled_features(info) >= {"AVX2", "FMA"}
    assert "OPENMP" not in checks.compiled_features(info)


# ---- What the system says ------------------------------------------------------------------------


def test_processor_features_are_read() -> None:
    told = "processor : 0\nflags\t\t: fpu pni avx2\n\nprocessor : 1\nflags : fpu\n"
    assert facts._features_in(told) == {"fpu", "pni", "avx2"}
    assert facts._features_in("Features\t: fp asimd asimddp\n") == {"fp", "asimd", "asimddp"}
    assert facts._features_in("nothing") is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], quota: Any) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert facts.processor_quota(tmp_path) == quota


def test_gpus_on_the_pci_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (("1", "0x10de", "0x030000"), ("2", "0x8086", "0x020000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    assert list(facts._on_pci(tmp_path)) == [Gpu("nvidia", "PCI device 1")]


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = facts.check_folder(tmp_path / "not" / "yet")
    assert (found.error, found.has_links) == (None, True)
    assert found.n_free > 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert (
        facts.check_folder(tmp_path / "file" / "inside").error
        == f"{tmp_path / 'file'} is not a folder"
    )
    assert facts.check_folder(tmp_path / ("x" * 300) / "hub").n_free > 0  # nor can it be looked at


# ---- The child -----------------------------------------------------------------------------------


def test_the_built_in_models_answer_here() -> None:
    native = probe.probe()
    assert native.error is None
    assert native.is_right
    assert "CPU" in native.backends
    assert "AVX" in checks.compiled_features(native.system_info or "") or native.system_info


def test_a_broken_library_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    native = probe.probe()
    assert native.system_info is None
    assert "llama" in (native.error or "")
    (found,) = worst(replace(SOUND, native=native))
    assert "cannot be used" in found.text


def test_how_a_child_ended() -> None:
    assert "instruction" in child.how_it_ended(-signal.SIGILL, b"")
    assert child.how_it_ended(-signal.SIGSEGV, b"x") == "it was killed by SIGSEGV"
    assert child.how_it_ended(3, b"a\nlast words\n") == "last words"
    assert child.how_it_ended(3, b"") == "it exited with status 3"


def test_a_child_that_dies_or_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dies.py").write_text(
        "import os\nprint('{\"a\": 1}', flush=True)\nprint('{\"b', flush=True)\nos.abort()\n"
    )
    (tmp_path / "waits.py").write_text("import time\nprint('{}', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert child.run("dies") == ([{"a": 1}], "it was killed by SIGABRT")
    records, ended = child.run("waits", timeout_s=0.5)
    assert records in ([], [{}])
    assert ended == "it did not finish within 0.5 s"


def test_the_version_that_is_wanted_is_the_one_that_pip_was_told() -> None:
    assert facts._pinned().count(".") == 2

"""`plan` and the options that fit models into memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import HubServer

Run = Callable[..., subprocess.CompletedProcess[bytes]]
QUESTION = "Tom has 23 apples and buys 45 more. How many has he now?"


def test_the_builtin_set(run: Run) -> None:
    done = run("plan")
    assert done.returncode == 0
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert lines[0].split()[:2] == ["source", "on"]
    assert [line.split()[0] for line in lines[1:4]] == ["ash", "birch", "cedar"]
    assert "Main memory:" in done.stdout.decode()
    assert "fits." in done.stdout.decode()


def test_json_adds_up(run: Run) -> None:
    done = run("plan", "builtin", "--json", "--context", "256")
    found = json.loads(done.stdout)
    assert found["fits"] is True
    assert {each["n_ctx"] for each in found["sources"]} == {256}
    for each in found["sources"]:
        assert "device" in each
        assert each["gpu"].keys() == each["main"].keys()
    cpu = next(memory for memory in found["memory"] if memory["kind"] == "cpu")
    assert cpu["needs"] == sum(sum(each["main"].values()) for each in found["sources"])
    assert cpu["needs"] < cpu["may_use"] <= cpu["available"] <= cpu["total"]


def test_a_set_that_does_not_fit(run: Run) -> None:
    done = run("plan", "--memory", "20MB")
    assert done.returncode == 5
    assert b"does not fit" in done.stdout
    error = done.stderr.decode()
    assert "may be used. What would fit: only the source " in error
    as_json = run("plan", "--memory", "20MB", "--json")
    assert as_json.returncode == 5
    found = json.loads(as_json.stdout)
    assert found["fits"] is False
    (advice,) = found["advice"]
    (name,) = advice["sources"]
    assert run("plan", "--model", name, "--memory", "20MB").returncode == 0  # it is true


def test_ask_is_refused_before_the_load_and_fit_off_loads_anyway(run: Run) -> None:
    refused = run("ask", QUESTION, "--memory", "20MB")
    assert refused.returncode == 5
    assert refused.stdout == b""
    assert b"Not enough memory for ash, birch, cedar" in refused.stderr
    by_variable = run("ask", QUESTION, env={"CF_LOCAL_MEMORY": "20MB"})
    assert by_variable.returncode == 5
    forced = run("ask", QUESTION, "--memory", "20MB", "--fit", "off")
    assert forced.returncode == 0
    assert b"68" in forced.stdout


def test_nothing_is_said_of_a_small_set_that_fits(run: Run) -> None:
    done = run("ask", QUESTION)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_was_reduced_is_said_in_one_line(run: Run) -> None:
    n_bytes = {
        kv: json.loads(run("plan", "--json", "--kv-type", kv).stdout)["memory"][0]["needs"]
        for kv in ("f16", "q8_0")
    }
    between = (n_bytes["f16"] + n_bytes["q8_0"]) // 2
    done = run("ask", QUESTION, "--memory", str(between))
    assert done.returncode == 0
    assert done.stdout.strip()
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Note: the set takes ")
    assert "KV cache q8_0" in line


def test_a_gpu_that_is_not_there(run: Run) -> None:
    from cf_local.llama.devices import devices

    if any(device.is_gpu for device in devices()):
        pytest.skip("there is a GPU")
    for command in (["plan"], ["ask", QUESTION], ["ask", QUESTION, "--fit", "off"]):
        done = run(*command, "--device", "gpu")
        assert done.returncode == 2
        assert b"pip install" in done.stderr
        assert b"GGML_CUDA" in done.stderr


def test_device_and_cache_of_a_source_in_the_registry(run: Run, work_folder: Path) -> None:
    registry = work_folder / "models.toml"
    registry.write_text('[sources.b]\nfile = "builtin:birch.gguf"\nkv_type = "q8_0"\n')
    found = json.loads(run("plan", "--model", "b", "--model", "ash", "--json").stdout)
    assert [each["kv_type"] for each in found["sources"]] == ["q8_0", "f16"]
    flag = json.loads(run("plan", "--model", "b", "--kv-type", "f16", "--json").stdout)
    assert flag["sources"][0]["kv_type"] == "f16"
    registry.write_text('[sources.b]\nfile = "builtin:birch.gguf"\ndevice = "tpu"\n')
    wrong = run("plan", "--model", "b")
    assert wrong.returncode == 2
    assert b"device is 'tpu'" in wrong.stderr


def test_wrong_use(run: Run) -> None:
    assert run("plan", "builtin", "--model", "ash").returncode == 2
    assert run("plan", "nothing").returncode == 2
    assert run("plan", "--memory", "much").returncode == 2
    assert run("ask", QUESTION, "--fit", "perhaps").returncode == 2
    assert run("plan", "--model", "missing/file.gguf").returncode == 3


def test_a_hostile_header_ends_no_command(
    run: Run, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    raw = bytearray(tiny_model("llama").read_bytes())
    at = raw.index(b"llama.block_count") + len(b"llama.block_count") + 4
    raw[at : at + 4] = bytes(4)
    (tmp_path / "hostile.gguf").write_bytes(raw)
    for command in (["plan"], ["ask", QUESTION]):
        done = run(*command, "--model", tmp_path / "hostile.gguf")
        assert done.returncode == 4
        assert b"hostile.gguf" in done.stderr


def test_a_model_of_the_hub_that_cannot_be_asked(run: Run) -> None:
    done = run("plan", "laptop", "--offline")
    assert done.returncode == 3
    assert b"is not on this machine" in done.stderr


def test_a_model_of_the_hub_is_planned_by_its_header_alone(
    run: Run, work_folder: Path, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    whole = tiny_model("llama", n_embd=512)
    (work_folder / "models.toml").write_text(
        '[sources.far]\nrepo = "org/model-GGUF"\nfile = "model-Q4_K_M.gguf"\n'
        '[fusions.two]\nsources = ["far", "ash"]\n'
    )
    with HubServer() as server:
        server.add("org/model-GGUF", {"model-Q4_K_M.gguf": whole.read_bytes()})
        env = {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
        env |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        far = run("plan", "--model", "far", "--json", env=env)
        too_large = run("ask", QUESTION, "--model", "far", "--memory", "10MB", env=env)
        to_serve = run("serve", "two", "--port", "0", "--memory", "10MB", env=env)
        n_sent = server.sent("model-Q4_K_M.gguf")
    assert far.returncode == 0, far.stderr
    assert too_large.returncode == to_serve.returncode == 5  # before it is downloaded
    assert n_sent < whole.stat().st_size
    assert not list((tmp_path / "hub").rglob("*.gguf"))
    (near,) = json.loads(run("plan", "--model", whole, "--json").stdout)["sources"]
    (source,) = json.loads(far.stdout)["sources"]
    assert source | {"source": near["source"]} == near

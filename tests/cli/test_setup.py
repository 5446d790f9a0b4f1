"""`cf-local setup`: from folders as other tools leave them to a default fusion."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Run

pytest.importorskip("gguf")

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
SHOWN = ("ask", "Hello", "--json", "--max-tokens", "8")
NETLESS = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


@pytest.fixture
def environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (Path(environment["CF_LOCAL_CACHE"]) / "setup-hint-shown").unlink()
    dropped = ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME")
    kept = {key: value for key, value in environment.items() if key not in dropped}
    return kept | NETLESS | {"USERPROFILE": environment["HOME"]}


@pytest.fixture
def home(environment: dict[str, str]) -> Path:
    return Path(environment["HOME"])


@pytest.fixture
def own(environment: dict[str, str], run: Run) -> Path:
    """The user's models.toml."""
    return Path(run("config", "path").stdout.decode().strip())


@pytest.fixture
def put(tiny_model: Callable[..., Path]) -> Callable[..., Path]:
    """``put(path, arch, **options)``: a tiny model as another tool would leave it."""

    def copied(path: Path, arch: str, template: str | None = TEMPLATE, **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tiny_model(arch, chat_template=template, **options)
        return Path(shutil.copyfile(source, path))

    return copied


def on_the_hub(home: Path) -> Path:
    folder = home / ".cache" / "huggingface" / "hub" / "models--org--Alpha-1B-Instruct-GGUF"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    return folder / "snapshots" / ("c" * 40) / "Alpha-1B-Instruct-Q8_0.gguf"


def in_ollama(home: Path) -> Path:
    folder, digest = home / ".ollama" / "models", "sha256:" + "b" * 64
    manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "beta" / "1b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
    manifest.write_text(json.dumps({"layers": [layer]}))
    return folder / "blobs" / digest.replace(":", "-")


@pytest.fixture
def three(home: Path, put: Callable[..., Path]) -> None:
    """A model of the hub, one of Ollama, one of LM Studio."""
    put(on_the_hub(home), "llama", seed=3, name="Alpha 1B")
    put(in_ollama(home), "qwen2", seed=4, name="whatever")
    put(home / ".lmstudio" / "models" / "p" / "r" / "gamma-1b-it-Q4_K_M.gguf", "gemma3", seed=5)


def test_three_tools_one_fusion(run: Run, home: Path, own: Path, three: None) -> None:
    done = run("setup", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    owners = {one["name"]: one["owner"] for one in told["models"]}
    assert owners == {
        "alpha-1b": "Hugging Face hub",
        "beta-1b": "Ollama",
        "gamma-1b": "LM Studio",
    }
    proposal = told["proposal"]
    assert (proposal["kind"], proposal["fusion"]) == ("fusion", "mine")
    assert sorted(proposal["sources"]) == ["alpha-1b", "beta-1b", "gamma-1b"]
    assert "main memory" in proposal["memory"]
    assert len(proposal["reasons"]) == 3
    assert told["written_to"] is None
    assert not own.exists()

    done = run("setup", "--yes")
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    for reason in proposal["reasons"]:  # on a line of its own: both fit a terminal
        assert f"\n      {reason}\n" in shown
    tables = tomllib.loads(own.read_text())
    assert tables["default"] == "mine"
    assert sorted(tables["fusions"]["mine"]["sources"]) == sorted(owners)
    assert tables["sources"]["alpha-1b"] == {
        "repo": "org/Alpha-1B-Instruct-GGUF",
        "file": "Alpha-1B-Instruct-Q8_0.gguf",
    }
    assert tables["sources"]["beta-1b"]["file"].endswith("sha256-" + "b" * 64)
    answer = run(*SHOWN)
    assert answer.returncode == 0, answer.stderr
    sources = json.loads(answer.stdout.splitlines()[-1])["sources"]
    assert sorted(each["name"] for each in sources) == sorted(owners)


def test_running_it_again_changes_nothing(run: Run, own: Path, three: None) -> None:
    assert run("setup", "--yes").returncode == 0
    text = own.read_text().replace("[fusions.mine]", "[fusions.mine]\nseed = 7")
    own.write_text(text)
    assert run("setup", "--yes").returncode == 0
    assert own.read_text() == text
    told = json.loads(run("setup", "--json").stdout)
    assert not any(one["is_new"] for one in told["models"])


def test_a_fusion_of_other_sources_keeps_its_name(
    run: Run, own: Path, home: Path, three: None, put: Callable[..., Path]
) -> None:
    own.parent.mkdir(parents=True)
    own.write_text(
        "[fusions.mine]\nsources = ['ash']\n[sources.beta-1b]\nfile = 'builtin:ash.gguf'\n"
    )
    assert run("setup", "--yes").returncode == 0
    tables = tomllib.loads(own.read_text())
    assert tables["fusions"]["mine"] == {"sources": ["ash"]}
    assert tables["sources"]["beta-1b"] == {"file": "builtin:ash.gguf"}
    assert tables["default"] == "mine-2"
    assert "beta-1b-2" in tables["fusions"]["mine-2"]["sources"]
    refused = run("setup", "--yes", "--name", "mine")
    assert (refused.returncode, b"already a fusion 'mine'" in refused.stderr) == (2, True)
    assert run("setup", "--yes", "--name", "other").returncode == 0
    assert tomllib.loads(own.read_text())["default"] == "other"


def test_what_is_no_language_model_is_told(
    run: Run, work_folder: Path, tmp_path: Path, put: Callable[..., Path]
) -> None:
    folder = tmp_path / "elsewhere"
    put(folder / "a.gguf", "llama", seed=3)
    put(folder / "b.gguf", "qwen2", seed=4)
    put(folder / "mmproj-a.gguf", "llama", seed=6, extra={"general.type": "mmproj"})
    put(folder / "lora.gguf", "llama", seed=7, extra={"general.type": "adapter"})
    put(folder / "nomic-embed-text.gguf", "llama", seed=8)
    put(folder / "copy.gguf", "llama", seed=3)
    for part in (1, 2):
        put(folder / f"split-0000{part}-of-00002.gguf", "gpt2", seed=9)
    (folder / "half.gguf").write_bytes((folder / "a.gguf").read_bytes()[:3000])
    (folder / "page.gguf").write_text("<html>")
    told = json.loads(run("setup", "--json", "--folder", folder).stdout)
    assert [one["name"] for one in told["models"]] == ["a", "b", "split"]
    reasons = {Path(each["path"]).name: each["reason"] for each in told["refused"]}
    assert reasons.keys() == {
        "mmproj-a.gguf",
        "lora.gguf",
        "nomic-embed-text.gguf",
        "copy.gguf",
        "half.gguf",
        "page.gguf",
    }
    assert reasons["copy.gguf"] == "the same model as a"
    assert reasons["mmproj-a.gguf"].startswith("a projector")
    assert reasons["page.gguf"].startswith("broken: ")
    text = run("setup", "--folder", folder).stdout.decode()
    assert "Found 3 models to fuse, and 6 files of other kinds." in text
    assert "an adapter (LoRA) of another model" in text
    assert run("setup", "--json", "--folder", folder / "none").returncode == 2


def test_what_follows_instructions_comes_first(
    run: Run, work_folder: Path, put: Callable[..., Path]
) -> None:
    for number, arch in enumerate(("llama", "qwen2", "gemma3")):
        put(work_folder / f"good-{arch}.gguf", arch, seed=number)
    put(work_folder / "base.gguf", "gpt2", template=None, seed=9)
    proposal = json.loads(run("setup", "--json").stdout)["proposal"]
    assert sorted(proposal["sources"]) == ["good-gemma3", "good-llama", "good-qwen2"]
    assert proposal["left_out"] == {"base": "a base model without a chat template"}


def test_one_model_answers_alone(run: Run, work_folder: Path, put: Callable[..., Path]) -> None:
    put(work_folder / "lonely.gguf", "llama", seed=3)
    done = run("setup", "--yes")
    assert done.returncode == 0
    assert b"One model answers alone" in done.stdout
    assert run(*SHOWN).returncode == 0


def test_nothing_here_and_nobody_to_ask(run: Run, own: Path) -> None:
    for arguments in ((), ("--yes",), ("--yes", "--json")):
        done = run("setup", *arguments)
        assert done.returncode == 3, done.stderr
        assert b"--folder DIR" in done.stderr
        assert b"Traceback" not in done.stderr
    told = json.loads(run("setup", "--json").stdout)
    assert told["models"] == told["refused"] == []
    assert told["proposal"] is None or told["proposal"]["kind"] == "pull"
    offline = run("setup", "--json", env={"HF_HUB_OFFLINE": "1"})
    assert (offline.returncode, json.loads(offline.stdout)["proposal"]) == (3, None)
    assert not own.exists()


def test_nobody_to_ask(run: Run, own: Path, three: None) -> None:
    done = run("setup")
    assert done.returncode == 2
    assert b"Proposed fusion mine" in done.stdout
    assert b"Use --yes" in done.stderr
    assert not own.exists()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 0)])
def test_it_asks(
    environment: dict[str, str],
    work_folder: Path,
    own: Path,
    three: None,
    answer: str,
    code: int,
) -> None:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable, ["-m", "cf_local", "setup"], cwd=work_folder, env=environment
    )
    child.expect("make it the default", timeout=60)
    child.sendline(answer)
    text = child.read().decode()
    child.close()
    assert child.exitstatus == code, text
    assert own.exists() == (code == 0)


def test_ctrl_c_at_the_question(
    environment: dict[str, str], work_folder: Path, own: Path, three: None
) -> None:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable, ["-m", "cf_local", "setup"], cwd=work_folder, env=environment
    )
    child.expect("make it the default", timeout=60)
    child.sendintr()
    child.expect(pexpect.EOF, timeout=30)
    child.close()
    assert child.exitstatus == 1
    assert not own.exists()


HINT = "`cf-local setup` finds real ones."


def on_a_terminal(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "cf_local", *arguments],
        cwd=folder,
        env=environment,
        dimensions=(40, 200),
        timeout=120,
    )
    text: str = child.read().decode()
    child.close()
    assert child.exitstatus == 0, text
    return text


def test_the_hint_comes_once_and_only_where_it_helps(
    run: Run, environment: dict[str, str], work_folder: Path, three: None
) -> None:
    ask = ("ask", "What is 7 times 8?")
    assert HINT not in on_a_terminal(environment, work_folder, *ask, "--json")
    assert HINT not in on_a_terminal(environment, work_folder, *ask, "--fusion", "builtin")
    assert HINT.encode() not in run(*ask).stderr  # no terminal
    assert HINT in on_a_terminal(environment, work_folder, *ask)
    assert HINT not in on_a_terminal(environment, work_folder, *ask)


def test_no_hint_where_there_are_real_models(
    run: Run, environment: dict[str, str], work_folder: Path, three: None
) -> None:
    assert run("setup", "--yes").returncode == 0
    text = on_a_terminal(environment, work_folder, "ask", "Hello", "--max-tokens", "4")
    assert HINT not in text


def test_the_hint_in_the_chat(environment: dict[str, str], work_folder: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable, ["-m", "cf_local", "chat"], cwd=work_folder, env=environment, timeout=60
    )
    child.expect_exact(HINT)
    child.expect_exact("\x1b[?2004h")  # the editor is ready
    child.send("/bye\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0

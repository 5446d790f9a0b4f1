"""`pull`, `list` and `rm` as processes of their own, against a hub on this machine."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from cli.conftest import Run
from hub_server import Fault, HubServer

REPO, FILE = "org/model-GGUF", "model-Q4_K_M.gguf"
BUILTIN = Path(__file__).parents[2] / "cf_local" / "builtin"
QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
MODELS_TOML = """
[sources.four]
repo = "org/model-GGUF"
quant = "q4_k_m"
[sources.eight]
repo = "org/model-GGUF"
file = "model-Q8_0.gguf"
[fusions.both]
sources = ["four", "eight"]
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        files = {FILE: (BUILTIN / "ash.gguf").read_bytes(), "README.md": b"hello"}
        files["model-Q8_0.gguf"] = (BUILTIN / "birch.gguf").read_bytes()
        server.add(REPO, files)
        yield server


@pytest.fixture
def environment(environment: dict[str, str], hub: HubServer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "work" / "models.toml").write_text(MODELS_TOML, encoding="utf-8")
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    return environment | ours | {"HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def work_folder(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


def start(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cf_local", *arguments]
    pipes: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "stdin": subprocess.DEVNULL,
    }
    if sys.platform != "win32":  # a shell's background job ignores Ctrl-C, and all that it starts
        pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def fill_by_hand(cache: Path) -> None:
    """A cache as another tool leaves it."""
    folder = cache / "models--org--model-GGUF"
    snapshot = folder / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    for file, source in ((FILE, "ash.gguf"), ("model-Q8_0.gguf", "birch.gguf")):
        shutil.copyfile(BUILTIN / source, snapshot / file)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c" * 40)


# ---- pull ----------------------------------------------------------------------------------------


def test_pulling_a_repository(run: Run, hub: HubServer, cache: Path) -> None:
    done = run("pull", REPO)
    assert (done.returncode, done.stderr) == (0, b"")
    name, _, rest = done.stdout.decode().partition(": ")
    path = Path(rest.partition(" (")[0])
    assert name == "model"
    assert rest.endswith(" (downloaded, 1.6 MB)\n")
    assert path.read_bytes() == (BUILTIN / "ash.gguf").read_bytes()
    assert path.is_relative_to(cache)
    hub.requests.clear()
    again = run("pull", REPO)
    assert again.stdout.decode() == f"model: {path} (already here)\n"
    assert hub.requests == []


def test_pulling_a_fusion_tells_a_record_per_file(run: Run, hub: HubServer) -> None:
    done = run("pull", "both", f"{REPO}:Q8_0", "--json")
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["file"] for record in records] == [FILE, "model-Q8_0.gguf"]
    for record in records:
        assert record["status"] == "downloaded"
        assert (
            record["received_bytes"] == record["size_bytes"] == Path(record["path"]).stat().st_size
        )
        assert Path(record["path"]).resolve().name == record["sha256"]
    done = run("pull", "both", "ash", "--json", "--offline")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["status"] for record in records] == ["cached", "cached", "local"]
    assert hub.sent(FILE) == records[0]["size_bytes"]


def test_update_finds_a_new_version(run: Run, hub: HubServer) -> None:
    assert run("pull", REPO).returncode == 0
    hub.add(REPO, {FILE: b"GGUF new"}, name="two")
    assert b"already here" in run("pull", REPO).stdout
    done = run("pull", REPO, "--update", "--json")
    record = json.loads(done.stdout)
    assert record["status"] == "downloaded"
    assert Path(record["path"]).read_bytes() == b"GGUF new"
    assert b"its content was already here" in run("pull", REPO, "--update").stdout


def test_a_revision(run: Run, hub: HubServer) -> None:
    hub.add(REPO, {FILE: b"GGUF old"}, name="old", ref="v1")
    record = json.loads(run("pull", REPO, "--revision", "v1", "--json").stdout)
    assert Path(record["path"]).read_bytes() == b"GGUF old"
    assert run("pull", "four", "--revision", "v1").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pull", f"{REPO}:Q5_0"), 3, "has no Q5_0; it has Q4_K_M, Q8_0"),
        (("pull", "org/nothing"), 3, "there is no repository org/nothing"),
        (("pull", f"{REPO}:none.gguf"), 3, "has no such file"),
        (("pull", REPO, "--offline"), 3, f"{REPO} is not on this machine"),
        (("pull", "eight", "--offline"), 3, "model-Q8_0.gguf of org/model-GGUF is not on this"),
        (("pull", "./none.gguf"), 3, "there is no file none.gguf"),
        (("pull", "nothing"), 2, "No source is named 'nothing'"),
        (("pull",), 2, "Missing argument 'MODEL...'"),
        (("pull", REPO, "--update", "--offline"), 2, "leave out --offline"),
        (("ask", "Hi", "--model", f"{REPO}:Q5_0"), 3, "has no Q5_0"),
        (("rm", "ash", "--yes"), 2, "ash comes with cf-local"),
        (("rm", "./some/file.gguf", "--yes"), 2, "it is not a download"),
        (("rm", "both", "--yes"), 2, "'both' is defined in"),
        (("rm", "four", "--yes"), 3, "is not on this machine"),
        (("rm", "four", "--revision", "x", "--all-revisions"), 2, "not both"),
    ],
)
def test_errors_have_their_codes(
    run: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(*arguments)
    assert message in done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"Traceback" not in done.stderr


def test_a_gated_repository_is_explained(run: Run, hub: HubServer) -> None:
    hub.repos[REPO].error = (403, {"X-Error-Code": "GatedRepo"})
    done = run("pull", REPO)
    assert done.returncode == 3
    assert "accept its licence first, at https://huggingface.co/org" in done.stderr.decode()
    assert b"HF_TOKEN" in done.stderr


def test_one_that_fails_is_told_beside_one_that_came(run: Run, hub: HubServer) -> None:
    hub.faults[FILE].append(Fault(status=404))
    done = run("pull", "both", "--json")
    assert done.returncode == 3
    failed, came = (json.loads(line) for line in done.stdout.splitlines())
    assert (failed["status"], came["status"]) == ("failed", "downloaded")
    assert failed["error"] in done.stderr.decode()


def test_setup_downloads_a_set_that_fits_only_when_told_to(
    run: Run, hub: HubServer, work_folder: Path, cache: Path
) -> None:
    (work_folder / "models.toml").unlink()
    known = json.loads(run("list", "--json").stdout)["sources"]
    too_large = "".join(
        f'[sources."{each["name"]}"]\nsize_bytes = {10**15}\n' for each in known if each["repo"]
    )
    ours = MODELS_TOML.replace('gguf"\n[', 'gguf"\nsize_bytes = 1600000\n[').replace(
        'quant = "q4_k_m"', f'file = "{FILE}"\nsize_bytes = 1600000'
    )
    (work_folder / "models.toml").write_text(ours + too_large, encoding="utf-8")
    for arguments in ((), ("--yes",)):
        done = run("setup", *arguments)
        assert done.returncode == 3
        assert b"Proposed download: both" in done.stdout
        assert b"cf-local setup --yes --pull" in done.stderr
    assert hub.requests == []
    assert not list(cache.rglob("*.gguf"))
    done = run("setup", "--yes", "--pull")
    assert done.returncode == 0, done.stderr
    assert b"both is now the default" in done.stdout
    assert len(list(cache.rglob("*.gguf"))) == 2
    told = json.loads(run("setup", "--json").stdout)  # now they are found
    assert {one["name"] for one in told["models"]} == {"four", "eight"}


def test_bars_are_for_terminals(
    environment: dict[str, str], work_folder: Path, hub: HubServer
) -> None:
    pexpect = pytest.importorskip("pexpect")
    hub.bytes_per_s = 4e6
    command = [sys.executable, "-m", "cf_local", "pull", "both"]
    child = pexpect.spawn(command[0], command[1:], cwd=work_folder, env=environment, timeout=60)
    text = child.read().decode()
    child.close()
    assert child.exitstatus == 0
    assert FILE in text
    assert "1.6/1.6 MB" in text


def test_the_library_fetches_what_it_loads(
    environment: dict[str, str], work_folder: Path, hub: HubServer
) -> None:
    code = (
        "import cf_local\n"
        f"with cf_local.load(models=[{REPO!r}, 'eight']) as fusion:\n"
        "    print([source.info.name for source in fusion.sources])\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=work_folder,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.stdout == b"['model', 'eight']\n", done.stderr
    for file in (FILE, "model-Q8_0.gguf"):  # its header by a range, for the plan, then all of it
        assert [request.status for request in hub.bodies(file)] == [206, 200]


# ---- Killed and interrupted ----------------------------------------------------------------------

BIG = 40_000_000


def wait_until(hub: HubServer, file: str, n_sent: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while hub.sent(file) < n_sent:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_ten_kills_cost_nearly_nothing(
    run: Run, hub: HubServer, environment: dict[str, str], work_folder: Path, cache: Path
) -> None:
    content = random.Random(7).randbytes(BIG)
    hub.add("org/big-GGUF", {"big-Q4_K_M.gguf": content})
    hub.bytes_per_s = 16e6
    for at in sorted(random.Random(8).sample(range(BIG), 10)):
        process = start(environment, work_folder, "pull", "org/big-GGUF")
        wait_until(hub, "big-Q4_K_M.gguf", at, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        blobs = list((cache / "models--org--big-GGUF" / "blobs").glob("*"))
        assert all("cf-local" in path.name for path in blobs)
        assert not list((cache / "models--org--big-GGUF" / "snapshots").rglob("*.gguf"))
    unfinished = json.loads(run("list", "--json").stdout)["unfinished"][0]
    assert (unfinished["file"], unfinished["size_bytes"]) == ("big-Q4_K_M.gguf", BIG)
    hub.bytes_per_s = None
    done = run("pull", "org/big-GGUF", "--json")
    assert done.returncode == 0
    assert Path(json.loads(done.stdout)["path"]).read_bytes() == content
    sent = hub.sent("big-Q4_K_M.gguf")
    print(f"sent {sent} for {BIG}: {100 * (sent / BIG - 1):.2f}% twice")  # noqa: T201
    assert BIG <= sent <= 1.05 * BIG
    assert huggingface_hub.scan_cache_dir(cache).warnings == []


@pytest.mark.skipif(sys.platform == "win32", reason="a console event stands for it there")
def test_ctrl_c_leaves_a_part_that_is_continued(
    run: Run, hub: HubServer, environment: dict[str, str], work_folder: Path
) -> None:
    hub.faults[FILE].append(Fault(stall_at=400_000))
    process = start(environment, work_folder, "pull", REPO)
    wait_until(hub, FILE, 400_000, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert (
        err == b"Error: Interrupted; what has arrived is saved. Run the same command to continue.\n"
    )
    listed = run("list").stdout.decode()
    assert "Unfinished downloads" in listed
    assert f"{REPO}  {FILE}  " in listed
    assert "of 1.6 MB (" in listed
    (unfinished,) = json.loads(run("list", "--json").stdout)["unfinished"]
    assert 0 < unfinished["n_bytes"] < 500_000
    assert run("pull", REPO).returncode == 0
    assert hub.bodies(FILE)[-1].n_sent == unfinished["size_bytes"] - unfinished["n_bytes"]
    assert "Unfinished" not in run("list").stdout.decode()


def test_an_unfinished_download_is_removed(run: Run, hub: HubServer, cache: Path) -> None:
    hub.always = Fault(status=404)
    hub.faults[FILE].append(Fault(drop_at=500_000))
    assert run("pull", REPO).returncode == 3
    parts = list(cache.rglob("*cf-local*"))
    assert len(parts) == 2
    done = run("rm", REPO, "--yes", "--json")
    assert json.loads(done.stdout)["freed_bytes"] == 500_000
    assert list(cache.rglob("*cf-local*")) == []


# ---- Without a network ---------------------------------------------------------------------------

NO_SOCKETS = """
import socket, sys
def refuse(*arguments, **_):
    with open({log!r}, "a") as file:
        file.write(repr(arguments[1:]) + "\\n")
    raise OSError("sockets are blocked")
for name in ("connect", "connect_ex", "sendto", "sendmsg"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse)
"""
OFFLINE = [({}, ("--offline",)), ({"HF_HUB_OFFLINE": "1"}, ()), ({}, ())]
COMMANDS = [
    ("pull", "both", REPO, f"{REPO}:q8_0"),
    ("ask", QUESTION, "--fusion", "both"),
    ("ask", QUESTION, "--model", REPO, "--model", f"{REPO}:Q8_0"),
]
OTHER_COMMANDS = [
    ("ask", QUESTION, "--fusion", "both", "--trace", "answer.jsonl"),
    ("bench", "--fusion", "both", "--n", "2"),
    ("calibrate", "builtin", "--fusion", "both", "--limit", "20", "--dry-run"),
    ("chat", "--fusion", "both"),
    ("config", "show", "both"),
    ("doctor",),
    ("eval", "builtin", "--fusion", "both", "--limit", "2"),
    ("history", "list"),
    ("list",),
    ("list", "--all"),
    ("plan", "both"),
    ("show", REPO),
    ("trace", "answer.jsonl"),
    ("rm", f"{REPO}:Q8_0", "--yes"),
]


@pytest.mark.parametrize(("variables", "flags"), OFFLINE)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_in_the_cache_needs_no_socket(
    run: Run,
    cache: Path,
    tmp_path: Path,
    variables: dict[str, str],
    flags: tuple[str, ...],
    command: tuple[str, ...],
) -> None:
    fill_by_hand(cache)
    log = tmp_path / "sockets.log"
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(NO_SOCKETS.format(log=str(log)))
    path = os.pathsep.join([str(tmp_path / "block"), *filter(None, sys.path)])
    done = run(*command, *flags, env=variables | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert not log.exists(), log.read_text()
    if command[0] == "ask":
        assert b"68" in done.stdout
    listed = run("list", env=variables | {"PYTHONPATH": path})
    assert b"four" in listed.stdout
    assert not log.exists()
    missing = run("pull", f"{REPO}:Q2_K", *flags, env=variables | {"PYTHONPATH": path})
    assert missing.returncode == 3
    assert log.exists() == (not variables and not flags), "the block blocks, or offline is not"


def test_what_is_in_the_cache_needs_no_network(
    environment: dict[str, str], work_folder: Path, cache: Path
) -> None:
    unshare = ["unshare", "--net", "--map-root-user"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no network namespaces here")
    fill_by_hand(cache)
    for command in (*COMMANDS, *OTHER_COMMANDS):
        done = subprocess.run(
            [*unshare, sys.executable, "-m", "cf_local", *command],
            cwd=work_folder,
            env=environment,
            input=f"{QUESTION}\n".encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert command not in COMMANDS or done.stderr == b""
        assert command[0] != "chat" or b"68" in done.stdout


# ---- list and rm ---------------------------------------------------------------------------------


def test_list_tells_what_is_here(run: Run, cache: Path) -> None:
    before = run("list").stdout.decode()
    names = [line.partition(" ")[0] for line in before.splitlines()]
    assert names[:7] == ["NAME", "ash", "birch", "cedar", "", "FUSION", "builtin"]
    fill_by_hand(cache)
    other = cache / "models--other--tool-GGUF" / "snapshots" / ("d" * 40)
    other.mkdir(parents=True)
    (other / "tool-IQ3_M.gguf").write_bytes(bytes(2_500_000))
    lines = run("list").stdout.decode().splitlines()
    assert lines[4].split()[:6] == ["four", f"{REPO}/{FILE}", "Q4_K_M", "1.6", "MB", "main"]
    assert lines[6].split()[:6] == [
        "-",
        "other/tool-GGUF/tool-IQ3_M.gguf",
        "IQ3_M",
        "2.5",
        "MB",
        "d" * 12,
    ]
    told = json.loads(run("list", "--json").stdout)
    assert told["unfinished"] == []
    four = next(model for model in told["models"] if "four" in model["names"])
    assert (four["repo"], four["file"], four["refs"]) == (REPO, FILE, ["main"])


def test_rm_asks_and_frees(
    run: Run, environment: dict[str, str], work_folder: Path, cache: Path
) -> None:
    fill_by_hand(cache)
    done = run("rm", "four")
    assert done.returncode == 2
    assert b"Use --yes" in done.stderr
    pexpect = pytest.importorskip("pexpect")
    for answer, code in (("n", 1), ("y", 0)):
        child = pexpect.spawn(
            sys.executable, ["-m", "cf_local", "rm", "four"], cwd=work_folder, env=environment
        )
        child.expect("Remove.*:", timeout=30)
        child.sendline(answer)
        text = child.read().decode()
        child.close()
        assert child.exitstatus == code, text
        assert bool(list(cache.rglob(FILE))) == (code == 1)
        assert ("1.6 MB freed" in text) == (code == 0)
    assert list(cache.rglob("model-Q8_0.gguf"))
    assert "four" not in table_of_files(run)


def table_of_files(run: Run) -> str:
    return run("list").stdout.decode().partition("\n\n")[0]

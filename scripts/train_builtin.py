"""Train the three built-in demonstration models from scratch and write them as Q8_0 GGUF files.

    python scripts/train_builtin.py                        # all three, into cf_local/builtin
    python scripts/train_builtin.py --only ash             # one of them
    python scripts/train_builtin.py --quick --out smoke    # a smoke run of about a minute

Generates the text, trains a vocabulary, tokenizes with llama.cpp, trains on the CPU (one core per
model), exports, compares the file with the network, and prints greedy accuracy on unseen problems.
Seeds are fixed. ``--start-from`` continues from earlier files, with new text and a new optimizer.
Left out: GPUs, tuning. The package itself never needs any of this.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("ash", "birch", "cedar")
NEEDS = "'torch>=2.9' gguf tokenizers sentencepiece numpy jinja2 llama-cpp-python==0.3.36"
# Without these glibc returns and refetches the pages of every large tensor: half the speed.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def main() -> int:
    """Train what the command line asks for, several sources in parallel processes."""
    options = parse(sys.argv[1:])
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    if options.only:
        train_one(options)
        return 0
    waiting, running = list(NAMES), []
    while waiting or running:
        while waiting and len(running) < options.jobs:
            running.append(subprocess.Popen([sys.executable, *sys.argv, "--only", waiting.pop(0)]))
        failed = [process for process in running if process.poll()]
        if failed:
            return 1
        running = [process for process in running if process.poll() is None]
        time.sleep(0.5)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, with the small sizes of ``--quick`` filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", choices=NAMES, help="train this source alone")
    parser.add_argument(
        "--steps", type=int, default=3000, help="training steps per source (default 3000)"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="shorten the schedule to this much time"
    )
    parser.add_argument(
        "--problems", type=int, default=110_000, help="training problems to generate"
    )
    parser.add_argument(
        "--measured", type=int, default=60, help="unseen problems per skill to measure on"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="sources to train at a time"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "cf_local" / "builtin", help="folder to write to"
    )
    parser.add_argument(
        "--rate", type=float, default=3e-3, help="highest learning rate (default 0.003)"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        help="continue from the files of this folder, with their vocabularies",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: few steps, useless models"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps, options.problems, options.measured = 40, 6000, 4
    return options


def train_one(options: argparse.Namespace) -> None:
    """Train one source from scratch and write a measured GGUF file."""
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    try:
        from builtin_training.pipeline import Pipeline
    except ImportError as error:
        raise SystemExit(
            f"{error}\nTraining needs more than cf-local: pip install {NEEDS}"
        ) from error
    Pipeline(options).run()


if __name__ == "__main__":
    raise SystemExit(main())

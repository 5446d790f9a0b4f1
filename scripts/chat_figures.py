"""Figures about the chat, in real pseudo-terminals; needs the packages of the extra `dev`.

    python scripts/chat_figures.py times       start to prompt, question to first word and to prompt
    python scripts/chat_figures.py interrupts  Ctrl-C at 50 random moments
    python scripts/chat_figures.py kills       kill -9 at 30 random moments, going on with -c

The last two run the checks of tests/cli/test_chat_screen.py with larger counts, and fail like them.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from cli import test_chat_screen as checks  # noqa: E402  # needs the path above
from cli.screen import Screen  # noqa: E402
from tiny_models import bpe_vocab, make_model  # noqa: E402

N_INTERRUPTS, N_KILLS, N_TIMES = 50, 30, 9


def main() -> None:
    """Parse the command line and print one figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", choices=["times", "interrupts", "kills"])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "home" / "data"
        data.parent.mkdir()
        env = os.environ | {"CF_LOCAL_DATA": str(data)}
        env.pop("NO_COLOR", None)
        path = Path(folder) / "endless.gguf"
        endless = make_model(path, "llama", bpe_vocab(), seed=1, eog_bias=-60)
        randomness = random.Random(given.seed)
        if given.figure == "times":
            times(env)
        elif given.figure == "interrupts":
            interrupts(env, endless, randomness)
        else:
            checks.kill_often(lambda *a: Screen(env, a), endless, randomness, N_KILLS)
            print(f"{N_KILLS} kills: nothing lost, every file sound, -c resumed each time")


def times(env: dict[str, str]) -> None:
    """Seconds that a user waits, as medians of several runs."""
    starts, words, answers = [], [], []
    for _ in range(N_TIMES):
        start_s = time.perf_counter()
        screen = Screen(env)
        screen.prompt()
        starts.append(time.perf_counter() - start_s)
        asked_s = time.perf_counter()
        screen.child.send(f"{checks.FIRST}\r")
        screen.child.expect("23 ")  # as it is echoed
        screen.child.expect(r"\?2004l")  # the line is entered
        screen.child.expect("Tom")
        words.append(time.perf_counter() - asked_s)
        screen.prompt()
        answers.append(time.perf_counter() - asked_s)
        screen.leave()
    for name, seconds in (("prompt", starts), ("first word", words), ("next prompt", answers)):
        middle = statistics.median(seconds)
        print(f"{name}: {middle:.3f} s (from {min(seconds):.3f} to {max(seconds):.3f})")


def interrupts(env: dict[str, str], endless: Path, randomness: random.Random) -> None:
    """Interrupt again and again, then check that the next answer is that of a new conversation."""
    options = ("--model", str(endless), "--temperature=1", "--max-tokens=100000")
    slowest = checks.interrupt_often(Screen(env, options), randomness, N_INTERRUPTS)
    print(f"{N_INTERRUPTS} interrupts: the record was well-formed each time")
    print(f"Ctrl-C to prompt: {statistics.median(slowest):.3f} s, at most {max(slowest):.3f} s")
    checks.interrupted_answers(Screen(env), randomness, N_INTERRUPTS)
    print("and the answer after each was that of a new conversation")


if __name__ == "__main__":
    main()

"""Conversations in several threads on one loaded fusion: texts, memory, time to stop.

Every answer is compared with the one that the same conversation gets alone, memory is looked at
while they write, and some answers are cancelled::

    python scripts/sessions_figures.py --threads 8 --minutes 10
"""

import argparse
import itertools
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from statistics import mean

import psutil

import cf_local
from cf_local.builtin.problems import generate
from cf_local.conversation import Turn

SYSTEM = "Answer in one or two sentences."
N_TALKS = 24  # different conversations; they are held again and again
N_TURNS = 3


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--conversations", type=int, help="seats; as many as threads unless given")
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    problems = generate(N_TALKS * N_TURNS, seed=31, split="test")
    talks = [[p.question for p in problems[i::N_TALKS]] for i in range(N_TALKS)]
    with cf_local.load() as fusion:
        alone = [talk(fusion, questions)[0] for questions in talks]
    options = cf_local.LoadOptions(n_conversations=arguments.conversations or arguments.threads)
    with cf_local.load(options=options) as fusion:
        Run(fusion, talks, alone).go(arguments.threads, 60 * arguments.minutes)


def talk(
    fusion: cf_local.Fusion, questions: list[str], cancels: int | None = None
) -> tuple[list[str], float]:
    """The answers of a conversation, and the seconds that stopping turn ``cancels`` took."""
    conversation = fusion.conversation(SYSTEM)
    texts, stop_s = [], 0.0
    for index, question in enumerate(questions):
        turn = conversation.ask(question)
        if index == cancels:
            stop_s = stopped(turn)
            break
        *_, answer = turn
        assert isinstance(answer, cf_local.Answer)
        texts.append(answer.text)
    return texts, stop_s


def stopped(turn: Turn) -> float:
    """Seconds from ``cancel``, by another thread, to the end of the answer."""
    at: list[float] = []

    def cancel() -> None:
        at.append(time.perf_counter())
        turn.cancel()

    timer = threading.Timer(0.03, cancel)
    timer.start()
    for _ in turn:
        pass
    end = time.perf_counter()
    timer.join()
    return max(0.0, end - at[0])


class Run:
    """Threads that talk until the time is over."""

    def __init__(
        self, fusion: cf_local.Fusion, talks: list[list[str]], alone: list[list[str]]
    ) -> None:
        self._fusion, self._talks, self._alone = fusion, talks, alone
        self._next = itertools.count()
        self._lock = threading.Lock()
        self._found: Counter[str] = Counter()
        self._per_thread: Counter[int] = Counter()
        self._stops_s: list[float] = []
        self._different: list[tuple[str, str]] = []

    def go(self, n_threads: int, seconds: float) -> None:
        """Talk in ``n_threads`` for ``seconds``, look at the memory, and print what was found."""
        end, sizes, process = time.monotonic() + seconds, list[float](), psutil.Process()
        with ThreadPoolExecutor(n_threads) as pool:
            running = [pool.submit(self._talk_until, end) for _ in range(n_threads)]
            while time.monotonic() < end:
                time.sleep(min(5.0, seconds / 12))
                sizes.append(process.memory_info().rss / 1e6)
                print(f"{self._found.total()} answers, {sizes[-1]:.0f} MB", file=sys.stderr)
            for done in running:
                done.result()
        self._report(sizes)

    def _talk_until(self, end: float) -> None:
        while time.monotonic() < end:
            number = next(self._next)
            index = number % len(self._talks)
            cancels = number % N_TURNS if number % 10 == 9 else None
            texts, stop_s = talk(self._fusion, self._talks[index], cancels)
            with self._lock:
                self._per_thread[threading.get_ident()] += len(texts)
                if cancels is not None:
                    self._stops_s.append(stop_s)
                for text, expected in zip(texts, self._alone[index], strict=False):
                    self._found["equal" if text == expected else "different"] += 1
                    if text != expected:
                        self._different.append((expected, text))

    def _report(self, sizes: list[float]) -> None:
        n_equal, n_all = self._found["equal"], self._found.total()
        print(f"answers equal to those given alone: {n_equal} of {n_all}")
        for expected, text in dict.fromkeys(self._different):
            print(f"--- alone\n{expected}\n--- among others\n{text}")
        late = sizes[len(sizes) // 6 :]
        thirds = [late[i * len(late) // 3 : (i + 1) * len(late) // 3] or late for i in range(3)]
        print("memory, three parts of the time: " + ", ".join(f"{mean(t):.1f} MB" for t in thirds))
        counts = self._per_thread.values()
        print(f"answers of a thread: {min(counts)} to {max(counts)}")
        if self._stops_s:
            print(
                f"from cancel to the end of the answer: {1000 * mean(self._stops_s):.0f} ms on "
                f"average, {1000 * max(self._stops_s):.0f} ms at most, of {len(self._stops_s)}"
            )


if __name__ == "__main__":
    main()

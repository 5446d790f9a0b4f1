"""Conversations in several threads on one loaded fusion: texts, memory, time to stop.

Every answer is compared with the one that the same conversation gets alone, memory is measured
meanwhile, and some answers are cancelled::

    python scripts/sessions_figures.py --threads 8 --minutes 10
"""

import argparse
import itertools
import sys
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from statistics import mean

import psutil

import cf_local
from cf_local.builtin.problems import generate
from cf_local.method.session import prefill
from cf_local.runtime.conversation import Turn
from cf_local.settings import Sampling
from cf_local.types import Candidate, Chat, Message

SYSTEM = "Answer in one or two sentences."
N_TALKS = 24  # different conversations, which are repeated
N_TURNS = 3


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--conversations", type=int, help="slots (default: the number of threads)")
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
    """The answers of a conversation, and the seconds that it took to stop turn ``cancels``."""
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
    """Threads that hold conversations until the time is over."""

    def __init__(
        self, fusion: cf_local.Fusion, talks: list[list[str]], alone: list[list[str]]
    ) -> None:
        self._fusion, self._talks, self._alone = fusion, talks, alone
        self._end = 0.0  # of the time, in seconds of the monotonic clock
        self._next = itertools.count()
        self._lock = threading.Lock()
        self._found: Counter[str] = Counter()
        self._per_thread: Counter[int] = Counter()
        self._stops_s: list[float] = []
        self._different: Counter[tuple[int, int, str]] = Counter()  # conversation, turn, text

    def go(self, n_threads: int, seconds: float) -> None:
        """Run ``n_threads`` for ``seconds``, measure memory, and print the results."""
        sizes, process = list[float](), psutil.Process()
        self._end = time.monotonic() + seconds
        with ThreadPoolExecutor(n_threads) as pool:
            running = [pool.submit(self._talk_on) for _ in range(n_threads)]
            while time.monotonic() < self._end:
                done, _ = wait(running, min(5.0, seconds / 12), FIRST_EXCEPTION)
                sizes.append(process.memory_info().rss / 1e6)
                print(f"{self._found.total()} answers, {sizes[-1]:.0f} MB", file=sys.stderr)
                if any(thread.exception() for thread in done):
                    self._end = 0.0
            for thread in running:
                thread.result()
        self._report(sizes)

    def _talk_on(self) -> None:
        while time.monotonic() < self._end:
            number = next(self._next)
            index = number % len(self._talks)
            cancels = number % N_TURNS if number % 10 == 9 else None
            texts, stop_s = talk(self._fusion, self._talks[index], cancels)
            with self._lock:
                self._per_thread[threading.get_ident()] += len(texts)
                if cancels is not None:
                    self._stops_s.append(stop_s)
                for place, (text, expected) in enumerate(
                    zip(texts, self._alone[index], strict=False)
                ):
                    self._found["equal" if text == expected else "different"] += 1
                    if text != expected:
                        self._different[index, place, text] += 1

    def _report(self, sizes: list[float]) -> None:
        n_equal, n_all = self._found["equal"], self._found.total()
        print(f"answers equal to those given alone: {n_equal} of {n_all}")
        for (index, place, text), n_times in self._different.items():
            expected = self._alone[index][place]
            print(f"--- alone\n{expected}\n--- among others, {n_times} times\n{text}\n---")
            self._explain(index, place, expected, text)
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

    def _explain(self, index: int, place: int, expected: str, text: str) -> None:
        """Print each source's score of the two words where texts differ, to recognize near ties.

        The turns before are those given alone; a source reads them all at once.
        """
        messages = [Message("system", SYSTEM)]
        for question, answer in zip(self._talks[index], self._alone[index][:place], strict=False):
            messages += [Message("user", question), Message("assistant", answer)]
        prompt = Chat((*messages, Message("user", self._talks[index][place])))
        pairs = zip(expected, text, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(text)))
        start = expected.rfind(" ", 0, at) if " " in expected[:at] else 0
        words = [_word(whole[start:]) for whole in (expected, text)]

        def scores() -> dict[str, list[float]]:
            found = {}
            for source in self._fusion.sources:
                session = source.sessions[0]
                prefill(session, prompt, sampling=Sampling())
                if start:
                    session.commit(Candidate(expected[:start].encode(), ends=False))
                both = session.score([Candidate(w.encode(), ends=False) for w in words])
                found[source.info.name] = [round(score.nll_nats, 3) for score in both]
            return found

        for name, nlls_nats in self._fusion.alone(scores).items():
            print(
                f"{name}: {nlls_nats[0]} and {nlls_nats[1]} nats for {words[0]!r} and {words[1]!r}"
            )


def _word(text: str) -> str:
    """The beginning of a text, up to its second space."""
    end = text.find(" ", 1)
    return text if end < 0 else text[:end]


if __name__ == "__main__":
    main()

"""Sources on a Ray cluster of several nodes on this machine, compared with one process.

Equal texts and passes, round trips, speed, what added latency costs, and answers whose actors or
nodes are killed at random moments::

    python scripts/ray_figures.py equal --answers 200
    python scripts/ray_figures.py cost --model a.gguf --model b.gguf --answers 8 --max-tokens 60
    python scripts/ray_figures.py latency --answers 10
    python scripts/ray_figures.py cancel --model a.gguf --times 10
    python scripts/ray_figures.py kill --times 30
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from ray_cluster import add_node, several_nodes  # noqa: E402 - lies there

import cf_local  # noqa: E402
from cf_local.builtin.problems import generate  # noqa: E402
from cf_local.cluster.connection import connect  # noqa: E402
from cf_local.cluster.host import Host  # noqa: E402
from cf_local.cluster.source import RaySource  # noqa: E402
from cf_local.evaluation.bench import EVERYDAY  # noqa: E402
from cf_local.loading.load import choose, load_chosen  # noqa: E402
from cf_local.planning.nodes import Placement  # noqa: E402
from cf_local.registry.registry import SourceSpec, load_registry  # noqa: E402
from cf_local.settings import Settings  # noqa: E402
from cf_local.types import Answer, Chat, Message, Step, chat  # noqa: E402

MODES = (
    {},
    {"speculation": False},
    {"all_scores": True},
    {"mode": "rerank"},
    {"mode": "cool+r"},
    {"temperature": 0.8},
)


@dataclass
class Run:
    """What answers had, and what they took."""

    texts: list[tuple[str, dict[str, int]]]
    n_steps: int
    n_bytes: int
    seconds: float
    n_round_trips: int

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.n_bytes / self.seconds

    def line(self, name: str) -> str:
        """For a table."""
        per_step = self.n_round_trips / self.n_steps
        return f"{name:28} {self.rate:8.1f} bytes/s  {per_step:5.2f} round trips a step"


class Delayed(Host):
    """A host whose replies come later, as over a network."""

    delay_s = 0.0

    def receive(self, *given: Any) -> Any:
        """The reply, after the delay."""
        reply = super().receive(*given)
        time.sleep(self.delay_s)
        return reply


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("equal", "cost", "latency", "cancel", "kill"))
    parser.add_argument("--model", action="append", default=[], help="files instead of the toys")
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    specs, settings = choose(load_registry(), None, given.model)
    settings = replace(settings, max_tokens=given.max_tokens)
    prompts = prompts_for(given.model, given.answers)
    with several_nodes("a", "b") as nodes, connect(nodes.address):
        if given.what == "cancel":
            cancel(nodes.address, specs, settings, prompts, given.times)
        elif given.what == "kill":
            kill(nodes, specs, settings, prompts, given.times, given.seed)
        else:
            work = {"equal": equal, "cost": cost, "latency": latency}[given.what]
            work(nodes.address, specs, settings, prompts)


def prompts_for(models: Sequence[str], n: int) -> list[Chat]:
    """Questions that suit the models."""
    if models:
        return [chat(EVERYDAY[i % len(EVERYDAY)]) for i in range(n)]
    return [chat(problem.question) for problem in generate(n, seed=71, split="test")]


def answered(
    fusion: cf_local.Fusion, prompts: Sequence[Chat], settings: Callable[[int], Settings]
) -> Run:
    """All answers, one after the other."""
    fusion.answer(prompts[0], settings(0))  # pages in what is needed
    before, start = round_trips(fusion), time.perf_counter()
    texts, n_steps = [], 0
    for index, prompt in enumerate(prompts):
        *steps, last = fusion.stream(prompt, settings(index))
        assert isinstance(last, Answer)
        texts.append((last.text, dict(last.passes)))
        n_steps += len(steps)
    seconds = time.perf_counter() - start
    n_bytes = sum(len(text.encode()) for text, _ in texts)
    return Run(texts, n_steps, n_bytes, seconds, round_trips(fusion) - before)


def round_trips(fusion: cf_local.Fusion) -> int:
    """Messages to all actors so far."""
    sources = [source for source in fusion.sources if isinstance(source, RaySource)]
    return sum(session.n_round_trips for source in sources for session in source.sessions)


def far(address: str, specs: Sequence[SourceSpec], settings: Settings) -> cf_local.Fusion:
    """The fusion on the cluster."""
    return load_chosen(specs, settings, options=cf_local.LoadOptions(ray=address))


def equal(
    address: str, specs: Sequence[SourceSpec], settings: Settings, prompts: Sequence[Chat]
) -> None:
    """Texts and passes of both, in several modes by turns."""

    def how(index: int) -> Settings:
        return settings.with_options(MODES[index % len(MODES)])

    with load_chosen(specs, settings) as fusion:
        near = answered(fusion, prompts, how)
    with far(address, specs, settings) as fusion:
        found = answered(fusion, prompts, how)
    pairs = list(zip(near.texts, found.texts, strict=True))
    n_texts = sum(one[0] == other[0] for one, other in pairs)
    n_passes = sum(one == other for one, other in pairs)
    print(f"{len(pairs)} answers: {n_texts} equal texts, {n_passes} with equal passes")
    for index, (one, other) in enumerate(pairs):
        if one[0] != other[0]:
            print(f"  {index} {MODES[index % len(MODES)]}: {one[0]!r} / {other[0]!r}")


def cost(
    address: str, specs: Sequence[SourceSpec], settings: Settings, prompts: Sequence[Chat]
) -> None:
    """Speed in one process and over actors, with and without asking all sources at once."""
    for options in ({}, {"all_scores": True}, {"mode": "rerank"}):
        how = settings.with_options(options)
        with load_chosen(specs, settings) as fusion:
            near = answered(fusion, prompts, lambda _, how=how: how)
        with far(address, specs, settings) as fusion:
            found = answered(fusion, prompts, lambda _, how=how: how)
            trips_ms = [
                1000 * source.round_trip_s()
                for source in fusion.sources
                if isinstance(source, RaySource)
            ]
        print(options or "default")
        print(near.line("  one process"))
        print(found.line("  actors"), f" ratio {found.rate / near.rate:.3f}")
        print("  round trips now, ms:", *(f"{ms:.2f}" for ms in trips_ms))


def latency(
    address: str, specs: Sequence[SourceSpec], settings: Settings, prompts: Sequence[Chat]
) -> None:
    """Speed with replies that come later."""
    from cf_local.cluster import source as sources

    sources.Host = Delayed  # type: ignore[misc]
    with far(address, specs, settings) as fusion:
        for delay_ms in (0, 1, 10):
            Delayed.delay_s = delay_ms / 1000
            found = answered(fusion, prompts, lambda _: settings)
            ms = 1000 * found.seconds / found.n_steps
            print(found.line(f"{delay_ms} ms added"), f" {ms:.1f} ms a step")


def cancel(
    address: str,
    specs: Sequence[SourceSpec],
    settings: Settings,
    prompts: Sequence[Chat],
    n_times: int,
) -> None:
    """Seconds from a cancel to the end, while a long prompt is read and while words are written."""
    words = prompts[0].messages[0].content
    long = chat((words + " ") * (20 if len(specs) > 2 else 200))
    with far(address, specs, settings) as fusion:
        for name, prompt, after_s in (("prompt", long, 0.3), ("words", prompts[0], 1.0)):
            found = []
            for index in range(n_times):
                asked: list[float] = []
                stream = fusion.stream(replace(prompt, messages=_varied(prompt, index)))

                def stop(stream: Any = stream, asked: list[float] = asked) -> None:
                    asked.append(time.perf_counter())
                    stream.cancel()

                timer = threading.Timer(after_s, stop)
                timer.start()
                *_, last = stream
                timer.join()
                if last.finish_reason == "cancelled":
                    found.append(time.perf_counter() - asked[0])
            if found:
                print(
                    f"{name}: {len(found)} cancelled, median {median(found):.3f} s, "
                    f"at most {max(found):.3f} s"
                )


def _varied(prompt: Chat, index: int) -> tuple[Message, ...]:
    """The conversation with another beginning, so that nothing of it was read before."""
    first = prompt.messages[0]
    return (replace(first, content=f"{index}. {first.content}"), *prompt.messages[1:])


def kill(
    nodes: Any,
    specs: Sequence[SourceSpec],
    settings: Settings,
    prompts: Sequence[Chat],
    n_times: int,
    seed: int,
) -> None:
    """Kill an actor, or every fifth time a node, somewhere in an answer; then ask again."""
    draw, ends = random.Random(seed), Counter[str]()
    with load_chosen(specs, settings) as fusion:
        expected = [fusion.answer(prompt).text for prompt in prompts]
        lengths = [sum(1 for _ in fusion.stream(prompt)) for prompt in prompts]
    before = n_actors()
    for index in range(n_times):
        which, kills_node = index % len(prompts), index % 5 == 4
        placed, node = list(specs), None
        if kills_node:
            node = add_node(nodes, "c")
            placed[0] = replace(placed[0], ray=Placement(resources={"c": 0.1}))
        with far(nodes.address, placed, settings) as fusion:
            at = draw.randrange(lengths[which])
            source = fusion.sources[0 if kills_node else draw.randrange(len(fusion.sources))]
            assert isinstance(source, RaySource)

            def strike(source: RaySource = source, node: Any = node) -> None:
                if node is None:
                    source.host.kill()
                else:
                    nodes.remove_node(node, allow_graceful=False)

            ends[struck(fusion, prompts[which], expected[which], at, strike)] += 1
            back = add_node(nodes, "c") if kills_node else None  # or it could not be loaded again
            again = fusion.answer(prompts[which]).text == expected[which]
            ends["the next one equal" if again else "THE NEXT ONE DIFFERS"] += 1
        if back is not None:
            nodes.remove_node(back)
        print(index + 1, dict(ends), flush=True)
    time.sleep(5)
    print(f"actors before {before}, after {n_actors()}")


def struck(
    fusion: cf_local.Fusion, prompt: Chat, expected: str, at: int, strike: Callable[[], None]
) -> str:
    """How an answer ended that was struck before its step ``at``."""
    try:
        for index, event in enumerate(fusion.stream(prompt)):
            if index == at and isinstance(event, Step):
                strike()
            if isinstance(event, Answer):
                is_told = "with a notice" if event.notices else "without a notice"
                return f"equal {is_told}" if event.text == expected else f"DIFFERENT {is_told}"
    except cf_local.ClusterError as error:
        print("  ", error)
        return "a clear error"
    return "NO ANSWER"


def n_actors() -> int:
    """Processes of actors that hold sources."""
    found = 0
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        found += words[0].startswith("ray::SourceActor")
    return found


if __name__ == "__main__":
    main()

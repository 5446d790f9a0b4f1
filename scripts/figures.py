"""Figures for docs/LOG.md, measured on the built-in sources.

    python scripts/figures.py accuracy    how many unseen word problems each way to fuse solves
    python scripts/figures.py ceiling     how many if the expert for each part writes it
    python scripts/figures.py passes      forward passes per segment, and time outside llama_decode
    python scripts/figures.py reference   the engine against the reference, text by text
    python scripts/figures.py calibrated  sets with spoilt sources: fused by default, and calibrated

Run it with the Python of .venv (`python scripts/dev.py setup` makes it). The problems are
from the test split, which shares no number pair with training; `--seed` draws others.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cf_local
from cf_local.builtin.problems import SKILLS, Problem, expert_of, final_number, generate
from cf_local.evaluation import Item, Variant, evidence, run, settings_for, summarize
from cf_local.evaluation.calibration import Calibration
from cf_local.evaluation.marks import Verdict
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.statistics import wilson
from cf_local.evaluation.tasks.builtin import WordProblems
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.method.session import Session, prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling
from cf_local.types import SCORES, Answer, Candidate, Chat, Draft

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = LoadOptions(n_threads=1)  # tiny models gain nothing from more


@dataclass(frozen=True)
class Case:
    """One way to answer; ``settings`` has what differs from the defaults."""

    name: str
    settings: dict[str, Any]


def main() -> None:
    """Parse the command line and print one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "figure", choices=["accuracy", "ceiling", "passes", "reference", "calibrated"]
    )
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    problems = generate(given.problems, seed=given.seed, split="test")
    figures = {
        "accuracy": accuracy,
        "ceiling": ceiling,
        "passes": passes,
        "reference": reference,
        "calibrated": calibrated,
    }
    figures[given.figure](problems, given.jobs)


# ---- Accuracy ------------------------------------------------------------------------------------


def cases(names: Sequence[str]) -> list[Case]:
    """Each source alone, and each mode with each score."""
    alone = [Case(name, {"mode": "single", "only": name}) for name in names]
    fused = [
        Case(f"{mode}, {score}", {"mode": mode, "score": score})
        for mode in ("rerank", "cool", "cool+r")
        for score in SCORES
    ]
    return alone + fused


def ceiling(problems: list[Problem], _jobs: int) -> None:
    """Solved problems when each part of the answer is written by the expert for its skill."""
    with load(options=ONE_THREAD) as fusion:
        sessions = {source.info.name: source.sessions[0] for source in fusion.sources}
        solved = []
        for problem in problems:
            writers = [sessions[expert_of(skill)] for skill in problem.skills]
            text = written_in_turn(cf_local.chat(problem.question), writers)
            solved.append(final_number(text) == problem.result)
    for kind, n_skills in (("all", None), ("one skill", 1), ("two skills", 2)):
        marks = [
            ok
            for ok, problem in zip(solved, problems, strict=True)
            if n_skills in (None, len(problem.skills))
        ]
        print(f"{kind}: {share(marks, interval=True)}")


def written_in_turn(prompt: Chat, writers: Sequence[Session]) -> str:
    """An answer whose first sentence is written by the first of ``writers``, and so on."""
    text = b""
    for index, session in enumerate(writers):
        prefill(session, prompt, sampling=Sampling())
        if text:
            session.commit(Candidate(text, False))
        ends = sentence_ends = False
        while not (ends or sentence_ends or session.n_response_tokens > 256):
            draft = session.draft(32)
            ends, text = draft.ends, text + draft.text
            session.commit(Candidate(draft.text, ends))
            is_last = index == len(writers) - 1
            sentence_ends = not is_last and draft.text.endswith(b".")
        if ends:
            break
    return text.decode(errors="replace")


def accuracy(problems: list[Problem], jobs: int) -> None:
    """A table of solved problems with 95% intervals, overall and by kind of problem."""
    with ProcessPoolExecutor(jobs) as pool:
        parts = list(pool.map(solve_all, [problems[i::jobs] for i in range(jobs)]))
    shuffled = [problem for i in range(jobs) for problem in problems[i::jobs]]
    solved = {name: [ok for part in parts for ok in part[name]] for name in parts[0]}
    kinds = {
        "one skill": lambda p: len(p.skills) == 1,
        "two skills": lambda p: len(p.skills) == 2,
        **{skill: (lambda p, s=skill: p.skills == (s,)) for skill in SKILLS},
    }
    rows = [["", "all", *kinds]]
    for name, marks in solved.items():
        cells = [share(marks, interval=True)]
        for is_kind in kinds.values():
            chosen = [ok for ok, p in zip(marks, shuffled, strict=True) if is_kind(p)]
            cells.append(share(chosen, interval=is_kind in list(kinds.values())[:2]))
        rows.append([name, *cells])
    print(f"{len(problems)} unseen problems; % solved, 95% Wilson intervals")
    print_table(rows)
    print_margin(solved)


def solve_all(problems: list[Problem]) -> dict[str, list[bool]]:
    """Which problems each case solves. Runs in a process of its own."""
    with load(options=ONE_THREAD) as fusion:
        names = [source.info.name for source in fusion.sources]
        return {
            case.name: [solves(fusion, problem, case.settings) for problem in problems]
            for case in cases(names)
        }


def solves(fusion: Fusion, problem: Problem, changes: dict[str, Any]) -> bool:
    """Whether the last number of the answer is right."""
    settings = replace(fusion.settings, max_tokens=256, **changes)
    answer = fusion.answer(cf_local.chat(problem.question), settings)
    return final_number(answer.text) == problem.result


def share(marks: Sequence[bool], *, interval: bool) -> str:
    """Percentage of true marks, with its 95% Wilson interval if asked for."""
    n, k = len(marks), sum(marks)
    if not n:
        return "-"
    if not interval:
        return f"{100 * k / n:.0f}"
    low, high = wilson(k, n)
    return f"{100 * k / n:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def print_margin(solved: dict[str, list[bool]]) -> None:
    """How far each fused case is above the best source alone."""
    alone = {name: sum(marks) for name, marks in solved.items() if "," not in name}
    best = max(alone, key=lambda name: alone[name])
    print(f"best source alone: {best}")
    for name, marks in solved.items():
        if "," in name:
            print(f"  {name}: {100 * (sum(marks) / alone[best] - 1):+.1f}% relative")


def print_table(rows: list[list[str]]) -> None:
    """Print aligned columns; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


# ---- Passes --------------------------------------------------------------------------------------


class CountingSession:
    """A session that counts the tokens of its last draft and passes everything else on."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.n_drafted = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def draft(self, limit: int) -> Draft:
        """The session's draft, counted."""
        return self._counted(self._session.draft(limit))

    def extend(self, limit: int) -> Draft:
        """The session's longer draft, counted."""
        return self._counted(self._session.extend(limit))

    def _counted(self, draft: Draft) -> Draft:
        self.n_drafted = len(draft.token_ends)
        return draft


def passes(problems: list[Problem], _jobs: int) -> None:
    """Passes per source and segment of n tokens without speculation, and the time outside them."""
    more: dict[bool, list[int]] = {True: [], False: []}
    answers: list[Answer] = []
    with load(options=ONE_THREAD) as fusion:
        counting = [CountingSession(source.sessions[0]) for source in fusion.sources]
        for source, session in zip(fusion.sources, counting, strict=True):
            source.sessions = [session]  # type: ignore[misc]
        n_before = [session.counters.n_tokens for session in counting]
        settings = replace(fusion.settings, max_tokens=256, speculation=False)
        for problem in problems:
            for event in fusion.stream(cf_local.chat(problem.question), settings):
                if isinstance(event, Answer):
                    answers.append(event)
                    continue
                agreed = len(event.candidates) == 1
                more[agreed] += [event.passes[s.source.info.name] - s.n_drafted for s in counting]
        n_prefill = [
            session.counters.n_tokens - n for session, n in zip(counting, n_before, strict=True)
        ]
    print(f"{len(answers)} answers, {len(more[True]) + len(more[False])} drafts")
    print(f"passes - n where all agreed: {min(more[True])} to {max(more[True])}")
    print(f"passes - n where they differed: {min(more[False])} to {max(more[False])}")
    share_agreed = len(more[True]) / (len(more[True]) + len(more[False]))
    print(f"segments on which all agreed: {share_agreed:.1%}")
    print(f"tokens of prompts: {[sum(a.prompt_tokens.values()) for a in answers][:3]} ...")
    print(f"tokens evaluated in all: {n_prefill}")
    outside = 1 - sum(a.decode_s for a in answers) / sum(a.elapsed_s for a in answers)
    print(f"time outside llama_decode: {outside:.1%} (models of 2 MB)")


# ---- The reference -------------------------------------------------------------------------------


def reference(problems: list[Problem], jobs: int) -> None:
    """Compare the texts of the engine, with and without speculation, with the reference."""
    with ProcessPoolExecutor(jobs) as pool:
        parts = list(pool.map(compare_all, [problems[i::jobs] for i in range(jobs)]))
    n_equal = sum(n for n, _ in parts)
    differences = [line for _, lines in parts for line in lines]
    n_compared = 2 * len(problems)
    print(f"{n_equal} of {n_compared} answers equal (with and without speculation)")
    for line in differences:
        print(line)


def compare_all(problems: list[Problem]) -> tuple[int, list[str]]:
    """Number of equal answers, and a line for each different one. Runs in a process of its own."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import reference as ref  # the tests' own module

    n_equal, lines = 0, []
    with load(options=ONE_THREAD) as fusion:
        known = [
            ref.RefSource(Path(s.info.file), name=s.info.name, n_ctx=512) for s in fusion.sources
        ]
        settings = replace(fusion.settings, mode="cool", max_tokens=256)
        for problem in problems:
            prompt = cf_local.chat(problem.question)
            tokens = [source.encode(prompt) for source in fusion.sources]
            expected = ref.fuse(
                known, tokens, ref.RefSettings(score=settings.score, max_tokens=256)
            )
            for speculation in (False, True):
                *steps, answer = fusion.stream(prompt, replace(settings, speculation=speculation))
                if answer.text == expected.text.decode():
                    n_equal += 1
                else:
                    lines.append(difference(problem, steps, expected))
    return n_equal, lines


def difference(problem: Problem, steps: list[Any], expected: Any) -> str:
    """Where engine and reference differ, and by how little."""
    from comparison import first_difference

    step = first_difference(steps, expected.steps)
    kind = "near tie" if step and step.near_tie else "DIFFERENT"
    margins = step and (min(step.draft_margins), step.score_margin)
    return f"{kind}: {problem.question} (logit and score margins {margins})"


# ---- Calibrated ----------------------------------------------------------------------------------

N_CALIBRATED = 160  # problems to calibrate on, drawn by another seed
SEED_CALIBRATED = 1_000_003


def calibrated(problems: list[Problem], jobs: int) -> None:
    """Sets with spoilt sources: each source alone, fusion by default, and the calibrated one."""
    with tempfile.TemporaryDirectory() as folder:
        bad = [spoil("ash", Path(folder) / f"bad{seed}.gguf", seed) for seed in (1, 2)]
        sets = [["ash", "birch", "cedar", str(bad[0])], ["birch", *map(str, bad)]]
        with ProcessPoolExecutor(jobs) as pool:
            for lines in pool.map(calibrate_one, sets, [problems] * len(sets)):
                print("\n".join(lines), flush=True)


def spoil(name: str, path: Path, seed: int) -> Path:
    """A copy of a built-in source with the rows of every matrix shuffled: it knows nothing."""
    import numpy as np
    from gguf import GGUFReader

    shutil.copy(ROOT / "cf_local" / "builtin" / f"{name}.gguf", path)
    rng, reader = np.random.default_rng(seed), GGUFReader(path, "r+")
    for tensor in reader.tensors:
        if len(tensor.shape) > 1:
            tensor.data[:] = tensor.data[rng.permutation(len(tensor.data))]
    reader.data.flush()
    return path


def calibrate_one(models: list[str], problems: list[Problem]) -> list[str]:
    """Calibrate on other problems, then measure on these. Runs in a process of its own."""
    with load(models=models, options=ONE_THREAD) as fusion:
        names = tuple(source.info.name for source in fusion.sources)
        task = WordProblems(N_CALIBRATED, SEED_CALIBRATED)
        space = SearchSpace(settings_for(task, fusion.settings), names)

        def answers(variants: Sequence[Variant], items: Sequence[Item]) -> Iterator[Verdict]:
            for found in run(fusion, task, items, variants):
                yield found.variant, found.item, found.right

        outcome = Calibration(space, list(task.items()), answers).run()
        calibrated = replace(outcome.recommended, name=f"calibrated: {outcome.recommended.name}")
        fused = [each for each in space.first() if each.sources is None]
        fresh = GivenProblems(problems)
        results = list(run(fusion, fresh, fresh.items(), [*space.alone(), *fused, calibrated]))
    summary = summarize("fresh problems", [*space.alone(), *fused, calibrated], results)
    assert summary is not None
    lines = [f"{', '.join(names)}: {evidence.verdict(outcome)}"]
    for row in summary.rows:
        versus = row.versus and f"won {row.versus.won}, lost {row.versus.lost}"
        lines.append(f"  {row.variant}: {evidence.share_text(row.accuracy)} {versus or ''}")
    return [*lines, f"  won and lost against {summary.best_alone}, on {summary.n_items} others"]


class GivenProblems(WordProblems):
    """The given problems as a task."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(len(problems))
        self._problems = problems

    def items(self) -> Sequence[Item]:
        """The problems, without groups."""
        return [
            Item(str(i), cf_local.chat(problem.question), str(problem.result))
            for i, problem in enumerate(self._problems)
        ]


if __name__ == "__main__":
    main()

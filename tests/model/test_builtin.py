"""The built-in sources: fused they solve what none of them solves alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

import cf_local
from cf_local.builtin.problems import Problem, final_number, generate, generate_for
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings

pytestmark = pytest.mark.model

PAPER_MARGIN = 1.174  # of the fused accuracy over the best source alone, on GSM8K


@pytest.fixture(scope="module")
def fusion() -> Iterator[Fusion]:
    with load(options=LoadOptions(n_threads=1)) as loaded:
        yield loaded


def n_solved(fusion: Fusion, problems: list[Problem], **changes: object) -> int:
    settings: Settings = replace(fusion.settings, max_tokens=256, **changes)  # type: ignore[arg-type]
    answers = [fusion.answer(cf_local.chat(p.question), settings) for p in problems]
    return sum(final_number(a.text) == p.result for a, p in zip(answers, problems, strict=True))


def test_fusion_beats_the_best_source_by_more_than_the_papers_margin(fusion: Fusion) -> None:
    problems = generate(90, seed=11, split="test")
    alone = [
        n_solved(fusion, problems, mode="single", only=source.info.name)
        for source in fusion.sources
    ]
    assert n_solved(fusion, problems, mode="cool+r") > PAPER_MARGIN * max(alone)
    assert n_solved(fusion, problems, mode="cool") > PAPER_MARGIN * max(alone)


def test_two_skills_need_fusion_inside_the_answer(fusion: Fusion) -> None:
    """No source knows both, so no choice among whole answers can be right."""
    problems = [
        problem
        for pair in (("add", "mul"), ("mul", "sub"), ("sub", "div"), ("percent", "add"))
        for problem in generate_for(pair, 8, seed=12, split="test")
    ]
    assert n_solved(fusion, problems, mode="cool") > 2 * n_solved(fusion, problems, mode="rerank")


def test_speculation_changes_no_text(fusion: Fusion) -> None:
    different = []
    for problem in generate(30, seed=13, split="test"):
        prompt = cf_local.chat(problem.question)
        settings = replace(fusion.settings, max_tokens=256)
        plain = fusion.answer(prompt, replace(settings, speculation=False))
        if fusion.answer(prompt, settings).text != plain.text:
            different.append(problem.question)
    assert len(different) <= 1, different  # near ties: scripts/figures.py shows each

"""The word problems: right answers, fair skills, and no pair shared by training and test."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cf_local.builtin import problems
from cf_local.builtin.arithmetic import held_out
from cf_local.builtin.problems import (
    EXPERTS,
    SKILLS,
    Problem,
    final_number,
    generate,
    generate_for,
    pairs_in,
)


def evaluate(expression: str) -> int:
    """The value of ``a op b`` or of a sum of such, as an answer writes it."""
    total = 0
    for term in expression.split(" + "):
        words = term.split()
        a = int(words[0])
        if len(words) == 1:
            total += a
            continue
        b = int(words[2])
        total += {"-": a - b, "*": a * b, "/": a // b}[words[1]]
    return total


def written_equations(answer: str) -> list[list[str]]:
    """Each chain ``x = y = z`` of an answer, as its list of expressions."""
    chains = []
    for sentence in answer.split(". "):
        if "=" in sentence:
            sides = [
                [w for w in side.split() if w.isdigit() or w in "+-*/"]
                for side in sentence.rstrip(".").split(" = ")
            ]
            sides[0] = sides[0][-3:]
            chains.append([" ".join(side) for side in sides])
    return chains


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Problem]]:
    """Problems of each split. A test problem takes milliseconds: few pairs are held out."""
    return {"train": generate(4000, 3, "train"), "test": generate(1200, 6, "test")}


@pytest.mark.parametrize("split", ["train", "test"])
def test_same_seed_same_problems(split: str) -> None:
    assert generate(40, 5, split) == generate(40, 5, split)
    assert generate(40, 5, split) != generate(40, 6, split)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        generate(1, 0, "validation")


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_written_equation_is_true(split: str, drawn: dict[str, list[Problem]]) -> None:
    for problem in drawn[split]:
        for chain in written_equations(problem.answer):
            assert len({evaluate(expression) for expression in chain}) == 1, problem


@pytest.mark.parametrize("split", ["train", "test"])
def test_answer_ends_with_the_result(split: str, drawn: dict[str, list[Problem]]) -> None:
    for problem in drawn[split]:
        assert problem.answer.endswith(f" The answer is {problem.result}.")
        assert final_number(problem.answer) == problem.result
        assert 0 < problem.result <= 999
        assert not problem.answer.startswith(" ")
        assert "{" not in problem.question + problem.answer


def test_splits_share_no_pair(drawn: dict[str, list[Problem]]) -> None:
    train, test = (
        {pair for p in drawn[split] for pair in pairs_in(p.answer)} for split in ("train", "test")
    )
    assert not train & test
    assert all(held_out(*pair) for pair in test)
    assert not any(held_out(*pair) for pair in train)
    assert not {(op, b, a) for op, a, b in test if op in "+*"} & train


def test_guessed_numbers_stay_out_of_the_test_split() -> None:
    for name, strong in EXPERTS.items():
        for problem in generate(1500, 4, "train", strong):
            pairs = pairs_in(problem.answer)
            assert len(pairs) == len(problem.skills), (name, problem)
            assert not any(held_out(*pair) for pair in pairs)


def test_every_pair_of_a_problem_is_found(drawn: dict[str, list[Problem]]) -> None:
    for problem in drawn["test"]:
        assert len(pairs_in(problem.answer)) == len(problem.skills)


def test_skills_are_fair(drawn: dict[str, list[Problem]]) -> None:
    single = Counter(p.skills[0] for p in drawn["test"] if len(p.skills) == 1)
    assert 0.62 < sum(single.values()) / len(drawn["test"]) < 0.71
    assert all(0.12 < single[skill] / sum(single.values()) < 0.22 for skill in SKILLS)
    for problem in drawn["test"]:
        if len(problem.skills) == 2:
            assert problems.expert_of(problem.skills[0]) != problems.expert_of(problem.skills[1])
    assert len({p.skills for p in drawn["test"] if len(p.skills) == 2}) == 24


def test_strong_skills_are_right_and_weak_ones_guessed() -> None:
    drawn = generate(3000, 7, "train", EXPERTS["birch"])
    right = {skill: [] for skill in SKILLS}  # type: dict[str, list[bool]]
    for problem in drawn:
        if len(problem.skills) == 1:
            chains = written_equations(problem.answer)
            right[problem.skills[0]].append(
                all(len({evaluate(e) for e in chain}) == 1 for chain in chains)
            )
    for skill, outcomes in right.items():
        share = sum(outcomes) / len(outcomes)
        assert share == 1 if skill in EXPERTS["birch"] else share < 0.25, skill


def test_the_second_step_goes_on_from_the_number_written() -> None:
    for problem in generate(1500, 8, "train", EXPERTS["ash"]):
        if len(problem.skills) == 2:
            (_, _, _), (_, a, b) = pairs_in(problem.answer)
            written = [int(chain[-1].split()[0]) for chain in written_equations(problem.answer)]
            assert written[0] in (a, b), problem


@pytest.mark.parametrize("skills", [("add",), ("percent", "sub"), ("div", "units")])
def test_generate_for_gives_these_skills(skills: tuple[str, ...]) -> None:
    assert {p.skills for p in generate_for(skills, 30, 9, "test")} == {skills}


def test_about_one_pair_in_ten_is_held_out_but_no_one_digit_fact() -> None:
    rng = random.Random(0)
    pairs = [(rng.randint(10, 999), rng.randint(10, 999)) for _ in range(5000)]
    assert 0.08 < sum(held_out("+", a, b) for a, b in pairs) / len(pairs) < 0.12
    assert not any(
        held_out("*", a, b) or held_out("/", a * b, b) for a in range(1, 10) for b in range(1, 10)
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 37.", 37),
        ("23 + 14 = 37. So 5", 5),
        ("none", None),
        ("10-4", 4),
        ("It is -3.", -3),
    ],
)
def test_final_number(text: str, number: int | None) -> None:
    assert final_number(text) == number


def test_small_talk_has_short_replies() -> None:
    for questions, reply in problems.small_talk():
        assert len(questions) == len(set(questions)) >= 3
        assert 0 < len(reply) < 130

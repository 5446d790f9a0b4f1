"""Calibrating on simulated walks: weights by EM, what is chosen, and the floor."""

from __future__ import annotations

import datetime as dt
import math
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cf_local.errors import InputError
from cf_local.evaluation import Item, Walk, evidence
from cf_local.evaluation.calibration import Outcome, halves
from cf_local.evaluation.search_space import SearchSpace
from cf_local.evaluation.statistics import wilson
from cf_local.evaluation.walk import Word
from cf_local.evaluation.word_calibration import calibrate_words, learnt_weights
from cf_local.evaluation.word_marks import WordMarks
from cf_local.settings import Settings
from cf_local.types import SCORES, Candidate, RawText, Score, SourceInfo

NAMES = ("ash", "birch", "cedar")
SOURCES = [SourceInfo(name, "") for name in NAMES]
SPACE = SearchSpace(Settings(), NAMES)
NOISE = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "calibration_noise.py"))

Sounds = Callable[[int, int], Word]


def word(drafts: str, right: str, nats: str) -> Word:
    """A word with a draft per source, each a letter; ``nats`` are of the sources' own drafts.

    What a source has not drafted itself costs it 9 nats.
    """
    letters = list(dict.fromkeys(drafts))
    own = [int(digit) for digit in nats]
    return Word(
        tuple(Candidate(letter.encode(), False) for letter in letters),
        tuple(map(letters.index, drafts)),
        tuple(letter == right for letter in letters),
        tuple(
            tuple(Score(own[k] if drafts[k] == letter else 9.0, 1) for letter in letters)
            for k in range(len(drafts))
        )
        if len(letters) > 1
        else (),
        tuple(Score(own[k] if drafts[k] == right else 9.0, 1) for k in range(len(drafts))),
    )


def calibrated(word_of: Sounds, n_texts: int = 60, groups: str = "x") -> Outcome:
    items = [Item(f"t{i}", RawText("?"), "text", groups[i % len(groups)]) for i in range(n_texts)]
    found = [
        Walk(each.id, 10, tuple(word_of(i, j) for j in range(10))) for i, each in enumerate(items)
    ]
    return calibrate_words(SPACE, items, WordMarks(found, SOURCES))


# ---- Weights by EM -------------------------------------------------------------------------------


def test_known_weights_are_recovered() -> None:
    # Words drawn from a mixture of three distributions over 50 words.
    rng = np.random.default_rng(5)
    truth = np.array([0.6, 0.3, 0.1])
    sources = rng.dirichlet(np.full(50, 0.3), size=3) + 1e-9
    words = rng.choice(50, size=20_000, p=truth @ sources / (truth @ sources).sum())
    assert learnt_weights(-np.log(sources[:, words])) == pytest.approx(truth, abs=0.02)


def test_they_make_the_words_most_likely() -> None:
    nats = np.random.default_rng(2).gamma(2, 2, (2, 300))
    best = learnt_weights(nats)[0]

    def log_likelihood(weight: float) -> float:
        return float(np.log(weight * np.exp(-nats[0]) + (1 - weight) * np.exp(-nats[1])).sum())

    grid = max(np.linspace(0.001, 0.999, 999), key=log_likelihood)
    assert best == pytest.approx(grid, abs=0.002)


def test_extreme_words_do_no_harm() -> None:
    nats = np.array([[1.0, 2000.0, math.inf, math.inf], [2.0, 1500.0, 1.0, math.inf]])
    first, second = learnt_weights(nats)
    assert first + second == pytest.approx(1)
    assert second > 0.6
    assert learnt_weights(np.zeros((3, 0))) == pytest.approx([1 / 3] * 3)


# ---- What is chosen ------------------------------------------------------------------------------


def test_what_is_tried() -> None:
    learnt = {"ash": 0.5, "birch": 1.0, "cedar": 0.25}
    found = SPACE.walked(lambda names: {name: learnt[name] for name in names})
    names = [each.name for each in found]
    assert len(set(names)) == len(names) == len(SCORES) * 3 * 4
    assert names[0] == "cool"
    assert "cool score=nll weights=equal" in names
    assert "cool sources=ash,cedar weight.ash=0.5 weight.cedar=0.25" in names


def test_defaults_that_are_better_are_confirmed() -> None:
    # Whoever knows the word is sure of it, and each knows a third of all words.
    def sounds(i: int, j: int) -> Word:
        expert = (i + j) % 3
        drafts = ["x", "y", "z"]
        drafts[expert] = "r"
        return word("".join(drafts), "r", "".join("1" if k == expert else "5" for k in range(3)))

    found = calibrated(sounds)
    assert (found.reason, found.recommended.name, found.unit) == ("confirmed", "cool", "words")
    assert (found.n_search, found.n_confirm) == (30, 30)
    assert found.accuracy["cool"].value == 1
    assert found.accuracy["cool"].n == 300
    assert len(found.tried) == 3 + 48
    assert found.alone["ash"].n == 600


def test_the_floor_where_only_one_source_knows() -> None:
    found = calibrated(lambda i, j: word("xyr", "r", "444"))
    assert (found.reason, found.recommended.name) == ("nothing above", "cedar")
    assert found.recommended.settings.mode == "single"
    assert found.chosen is None


def test_what_only_the_search_half_shows_is_not_confirmed() -> None:
    items = [Item(f"t{i}", RawText("?"), "text") for i in range(40)]
    lucky = {each.id for each in halves(items, 0)[0]}
    found = [
        Walk(each.id, 1, (word("rxx" if each.id not in lucky else "xrr", "r", "111"),))
        for each in items
    ]
    outcome = calibrate_words(SPACE, items, WordMarks(found, SOURCES))
    assert not outcome.is_fused


def test_a_group_that_falls_prevents_it() -> None:
    def sounds(i: int, j: int) -> Word:
        if i % 6 == 5:  # group y: only ash knows, and birch is surer
            return word("rxz", "r", "819")
        return word("ryz", "r", "159") if j % 2 else word("xrz", "r", "519")

    found = calibrated(sounds, 120, "xxxxxy")
    assert (found.reason, found.falling) == ("a group falls", ("y",))
    assert (found.recommended.name, found.chosen) == ("ash", SPACE.first()[0])
    assert (found.groups["x"].lost, found.groups["y"].lost) == (0, 100)


def test_too_little_to_calibrate_on() -> None:
    with pytest.raises(InputError, match="19 texts are too few"):
        calibrated(lambda i, j: word("xyz", "x", "111"), 19)


def test_what_is_said_and_written() -> None:
    def sounds(i: int, j: int) -> Word:
        expert = (i + j) % 2
        return word("ryz" if expert else "xry", "r", "155" if expert else "515")

    found = calibrated(sounds)
    day = dt.date(2026, 11, 29)
    assert evidence.sentence(found, "texts.jsonl", day).startswith(
        "Calibrated 2026-11-29 on texts.jsonl: cool would write 100.0% (87.8-100.0) of 300 words "
        "of the reference texts that played no part in its choice, "
    )
    assert " on 300 words that played no part" in evidence.verdict(found)
    assert "30 texts to search, 30 to confirm" in evidence.notes(found, 0, {}, version="1")[1]
    values = evidence.values_of(found.recommended, dict(zip(NAMES, NAMES, strict=True)))
    assert values == {"sources": NAMES, "mode": "cool", "score": "mixture", "weights": "size"}


# ---- Noise, counted ------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "mood"), [("equal", 1.0), ("rival", 0.0)])
def test_noise_is_seldom_recommended(world: str, mood: float) -> None:
    n_runs = 20
    names = [NOISE["outcome_on_words"](world, mood, 24, seed) for seed in range(n_runs)]
    n_fused = sum(name != "floor" for name in names)
    assert wilson(n_fused, n_runs)[0] < 0.05

"""From scores to a winner, against formulas written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method import reranker
from cf_local.method.reranker import (
    UNSCORED,
    Verdict,
    lowest_pooled,
    pool,
    score_matrix,
)
from cf_local.types import SCORES, Candidate, Score


def decide(
    scores: list[list[Score]],
    candidates: list[Candidate],
    kind: str,
    weights: list[float] | None = None,
    *,
    whole: bool = False,
) -> Verdict:
    weights = weights or [1.0] * len(scores)
    return reranker.decide(scores, candidates, kind, weights, whole=whole)  # type: ignore[arg-type]


SCORE = st.builds(Score, st.floats(0, 60), st.integers(1, 20), st.floats(0, 9))
TEXTS = (b" 68", b".", b"", " 東京".encode())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[Score]], list[Candidate]]:
    n_sources, n_candidates = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    row = st.lists(SCORE, min_size=n_candidates, max_size=n_candidates)
    scores = draw(st.lists(row, min_size=n_sources, max_size=n_sources))
    return scores, [Candidate(TEXTS[i], i % 2 == 0) for i in range(n_candidates)]


def by_hand(score: Score, candidate: Candidate, kind: str) -> float:
    if kind == "mixture":
        return score.nll_nats + score.word_end_nats
    if kind == "bits_per_byte":
        return score.nll_nats / math.log(2) / max(1, len(candidate.text))
    mean = score.nll_nats / score.n_terms
    return math.exp(mean) if kind == "perplexity" else mean


@given(tables(), st.sampled_from(SCORES))
def test_the_matrix_holds_the_score_of_each_source_and_candidate(
    table: tuple[list[list[Score]], list[Candidate]], kind: str
) -> None:
    scores, candidates = table
    matrix = score_matrix(scores, candidates, kind)  # type: ignore[arg-type]
    assert matrix.shape == (len(scores), len(candidates))
    for k, j in np.ndindex(*matrix.shape):
        assert matrix[k, j] == pytest.approx(by_hand(scores[k][j], candidates[j], kind))


@given(tables(), st.sampled_from(SCORES), st.data())
def test_the_lowest_pooled_score_wins(
    table: tuple[list[list[Score]], list[Candidate]], kind: str, data: st.DataObject
) -> None:
    scores, candidates = table
    weight = st.integers(0, 5).map(float)
    weights = data.draw(
        st.lists(weight, min_size=len(scores), max_size=len(scores)).filter(any) | st.none()
    )
    verdict = decide(scores, candidates, kind, weights)
    counted = weights or [1.0] * len(scores)
    expected = []
    for j, candidate in enumerate(candidates):
        column = [by_hand(row[j], candidate, kind) for row in scores]
        terms = [math.exp(-s) for s in column] if kind == "mixture" else column
        mean = sum(w * t for w, t in zip(counted, terms, strict=True)) / sum(counted)
        expected.append(-math.log(mean) if kind == "mixture" else mean)
    assert verdict.pooled is not None
    assert verdict.pooled.tolist() == pytest.approx(expected)
    assert verdict.pooled[verdict.winner] == min(verdict.pooled)


def test_the_mixture_of_whole_answers_takes_the_mean_of_their_terms() -> None:
    scores = [[Score(6.0, 3, 5.0), Score(4.0, 1)], [Score(3.0, 3), Score(2.0, 1)]]
    candidates = [Candidate(b"a b c", True), Candidate(b"", True)]
    verdict = decide(scores, candidates, "mixture", whole=True)
    assert verdict.matrix is not None
    assert verdict.pooled is not None
    assert verdict.matrix.tolist() == [[2.0, 4.0], [1.0, 2.0]]
    mean = (math.exp(-2) + math.exp(-1)) / 2
    assert verdict.pooled[0] == pytest.approx(-math.log(mean))
    assert verdict.winner == 0


def test_one_sure_source_outvotes_two_that_are_not_in_the_mixture_only() -> None:
    """A mean of logarithms gives every source a veto; a mean of probabilities does not."""
    a, b, c = ([Score(0.1, 1), Score(9.0, 1)], *([[Score(9.0, 1), Score(2.0, 1)]] * 2))
    candidates = [Candidate(b"a", False), Candidate(b"b", False)]
    assert decide([a, b, c], candidates, "mixture").winner == 0
    assert decide([a, b, c], candidates, "nll").winner == 1


def test_the_shorter_of_two_words_pays_for_its_end() -> None:
    short = [[Score(0.1, 1), Score(1.0, 2)]]
    candidates = [Candidate(b" 8", False), Candidate(b" 85", False)]
    assert decide(short, candidates, "mixture").winner == 0
    ended = [[Score(0.1, 1, word_end_nats=2.0), Score(1.0, 2, word_end_nats=0.1)]]
    assert decide(ended, candidates, "mixture").winner == 1
    assert decide(ended, candidates, "nll").winner == 0  # which does not look at ends


def test_very_unlikely_candidates_are_still_told_apart() -> None:
    """Their probabilities are too small for a float."""
    scores = [[Score(2000.0, 1), Score(1500.0, 1)], [Score(3000.0, 1), Score(1900.0, 1)]]
    verdict = decide(scores, [Candidate(b"a", False), Candidate(b"b", False)], "mixture")
    assert verdict.winner == 1
    assert verdict.pooled is not None
    assert verdict.pooled.tolist() == pytest.approx([2000 + math.log(2), 1500 + math.log(2)])


def test_a_tie_goes_to_the_first() -> None:
    same = [Score(2.0, 2), Score(1.0, 1), Score(3.0, 1)]
    candidates = [Candidate(b"a", False), Candidate(b"b", False), Candidate(b"c", False)]
    assert decide([same, same], candidates, "perplexity").winner == 0
    assert decide([same[::-1], same[::-1]], candidates, "perplexity").winner == 1
    assert decide([[Score(1.0, 2, 1.0), Score(2.0, 2)]], candidates[:2], "mixture").winner == 0
    one, other = Score(1.0, 1), Score(2.0, 1)
    assert decide([[one, other], [other, one]], candidates[:2], "mixture").winner == 0


def test_an_impossible_candidate_loses_without_a_warning() -> None:
    scores = [[Score(math.inf, 1), Score(9.0, 1)], [Score(0.1, 1), Score(9.0, 1)]]
    candidates = [Candidate(b"", True), Candidate(b"a", False)]
    for kind in (each for each in SCORES if each != "mixture"):
        assert decide(scores, candidates, kind).winner == 1
    scores[1][0] = Score(math.inf, 1)  # in the mixture, to all sources
    for kind in SCORES:
        assert decide(scores, candidates, kind).winner == 1
    far = [[Score(5000.0, 1), Score(9.0, 1)]]
    assert decide(far, candidates, "perplexity").winner == 1


def test_a_source_of_weight_zero_does_not_count_even_when_infinite() -> None:
    matrix = np.array([[math.inf, 1.0], [1.0, 2.0]])
    for kind in SCORES:
        assert pool(matrix, kind, [0.0, 3.0]).tolist() == [1.0, 2.0]  # type: ignore[arg-type]


def test_what_is_impossible_to_one_source_is_only_rarer_in_the_mixture() -> None:
    matrix = np.array([[math.inf, 1.0], [1.0, math.inf], [math.inf, math.inf]])
    expected = [1 + math.log(2), 1 + math.log(2)]
    assert pool(matrix[:2], "mixture", [1.0, 1.0]).tolist() == pytest.approx(expected)
    with np.errstate(all="raise"):
        assert pool(matrix[2:], "mixture", [1.0]).tolist() == [math.inf, math.inf]


def test_weights_shift_the_winner() -> None:
    scores = [[Score(1.0, 1), Score(2.0, 1)], [Score(2.0, 1), Score(1.0, 1)]]
    candidates = [Candidate(b"a", False), Candidate(b"b", False)]
    assert decide(scores, candidates, "nll", [2.0, 1.0]).winner == 0
    assert decide(scores, candidates, "nll", [1.0, 2.0]).winner == 1


def test_the_mean_of_perplexities_is_not_that_of_likelihoods() -> None:
    scores = [[Score(0.0, 1), Score(2.0, 1)], [Score(3.9, 1), Score(2.0, 1)]]
    candidates = [Candidate(b"a", False), Candidate(b"b", False)]
    assert decide(scores, candidates, "nll").winner == 0
    assert decide(scores, candidates, "perplexity").winner == 1


@given(tables(), st.sampled_from(SCORES), st.data())
def test_what_is_not_scored_yet_counts_as_the_best_there_is(
    table: tuple[list[list[Score]], list[Candidate]], kind: str, data: st.DataObject
) -> None:
    scores, candidates = table
    pooled = decide(scores, candidates, kind, whole=True).pooled
    partial = [[s if data.draw(st.booleans()) else UNSCORED for s in row] for row in scores]
    assert pooled is not None
    equal = [1.0] * len(scores)
    assert (lowest_pooled(partial, candidates, kind, equal) <= pooled).all()  # type: ignore[arg-type]
    assert lowest_pooled(scores, candidates, kind, equal).tolist() == pooled.tolist()  # type: ignore[arg-type]


def test_what_somebody_left_unscored_does_not_win() -> None:
    candidates = [Candidate(b"a", False), Candidate(b"b", False)]
    for kind in SCORES:
        verdict = decide([[UNSCORED, Score(2.0, 1)]], candidates, kind)
        assert verdict.winner == 1
        assert verdict.pooled is not None
        assert math.isnan(verdict.pooled[0])

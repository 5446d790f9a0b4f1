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
    lowest_means,
    score_matrix,
    weighted_mean,
)
from cf_local.types import SCORES, Candidate, Score


def decide(
    scores: list[list[Score]],
    candidates: list[Candidate],
    kind: str,
    weights: list[float] | None = None,
) -> Verdict:
    return reranker.decide(scores, candidates, kind, weights or [1.0] * len(scores))  # type: ignore[arg-type]


SCORE = st.builds(Score, st.floats(0, 60), st.integers(1, 20))
TEXTS = (b" 68", b".", b"", " 東京".encode())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[Score]], list[Candidate]]:
    n_sources, n_candidates = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    row = st.lists(SCORE, min_size=n_candidates, max_size=n_candidates)
    scores = draw(st.lists(row, min_size=n_sources, max_size=n_sources))
    return scores, [Candidate(TEXTS[i], i % 2 == 0) for i in range(n_candidates)]


def by_hand(score: Score, candidate: Candidate, kind: str) -> float:
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


@given(tables(), st.data())
def test_the_lowest_weighted_mean_wins(
    table: tuple[list[list[Score]], list[Candidate]], data: st.DataObject
) -> None:
    scores, candidates = table
    weight = st.integers(0, 5).map(float)
    weights = data.draw(
        st.lists(weight, min_size=len(scores), max_size=len(scores)).filter(any) | st.none()
    )
    verdict = decide(scores, candidates, "nll", weights)
    counted = weights or [1.0] * len(scores)
    means = [
        sum(w * by_hand(row[j], c, "nll") for w, row in zip(counted, scores, strict=True))
        / sum(counted)
        for j, c in enumerate(candidates)
    ]
    assert verdict.means is not None
    assert verdict.means.tolist() == pytest.approx(means)
    assert verdict.means[verdict.winner] == min(verdict.means)


def test_a_tie_goes_to_the_first() -> None:
    same = [Score(2.0, 2), Score(1.0, 1), Score(3.0, 1)]
    candidates = [Candidate(b"a", False), Candidate(b"b", False), Candidate(b"c", False)]
    assert decide([same, same], candidates, "perplexity").winner == 0
    assert decide([same[::-1], same[::-1]], candidates, "perplexity").winner == 1


def test_an_impossible_candidate_loses_without_a_warning() -> None:
    scores = [[Score(math.inf, 1), Score(9.0, 1)], [Score(0.1, 1), Score(9.0, 1)]]
    candidates = [Candidate(b"", True), Candidate(b"a", False)]
    for kind in SCORES:
        assert decide(scores, candidates, kind).winner == 1  # type: ignore[arg-type]
    far = [[Score(5000.0, 1), Score(9.0, 1)]]
    assert decide(far, candidates, "perplexity").winner == 1


def test_a_source_of_weight_zero_does_not_count_even_when_infinite() -> None:
    matrix = np.array([[math.inf, 1.0], [1.0, 2.0]])
    assert weighted_mean(matrix, [0.0, 3.0]).tolist() == [1.0, 2.0]


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
    means = decide(scores, candidates, kind).means
    partial = [[s if data.draw(st.booleans()) else UNSCORED for s in row] for row in scores]
    assert means is not None
    equal = [1.0] * len(scores)
    assert (lowest_means(partial, candidates, kind, equal) <= means).all()  # type: ignore[arg-type]
    assert lowest_means(scores, candidates, kind, equal).tolist() == means.tolist()  # type: ignore[arg-type]


def test_what_somebody_left_unscored_does_not_win() -> None:
    candidates = [Candidate(b"a", False), Candidate(b"b", False)]
    verdict = decide([[UNSCORED, Score(2.0, 1)]], candidates, "nll")
    assert verdict.winner == 1
    assert verdict.means is not None
    assert math.isnan(verdict.means[0])

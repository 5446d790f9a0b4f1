"""Ways to weigh, against numbers worked out by hand, and what the engine makes of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import PROMPT, VOCABULARIES, noise, run, table, writer_of

from cf_local.errors import CfLocalError, InputError
from cf_local.method.weighing import Hedge, Primary, Prior, Trim, Weighing, reward, weighing_of
from cf_local.runtime.fusion import Fusion
from cf_local.testing import END, PieceVocabulary, ScriptedSource
from cf_local.types import WEIGHINGS, RawText, Sampling, Score, Settings

MATRIX = np.array([[1.0, 4.0], [3.0, 2.0], [8.0, 20.0]])


def test_static_weights_are_a_plain_weighted_mean() -> None:
    assert Weighing(None, 3).means(MATRIX).tolist() == [4.0, 26 / 3]
    assert Weighing((1.0, 1.0, 0.0), 3).means(MATRIX).tolist() == [2.0, 3.0]


# --- The prompt ------------------------------------------------------------------------------


def test_a_prior_is_the_softmax_of_minus_the_mean_nll_of_the_prompt() -> None:
    prior = Prior((1.0, 2.0, 1.0), 3)
    prior.begin([Score(10.0, 5), Score(12.0, 4), Score(1.0, 1)])  # means 2, 3, 1
    weights = np.array([math.exp(-2), 2 * math.exp(-3), math.exp(-1)])
    assert prior.means(MATRIX).tolist() == pytest.approx((weights @ MATRIX / sum(weights)).tolist())


def test_a_prior_that_nothing_is_known_of_is_static() -> None:
    prior = Prior(None, 2)
    prior.begin([Score(0.0, 0), Score(10.0, 5)])
    assert prior.means(MATRIX[:2]).tolist() == [2.0, 3.0]


def test_a_source_that_is_not_heard_takes_no_part_in_the_prior() -> None:
    prior = Prior((0.0, 1.0), 2)
    prior.begin([Score(0.0, 1), Score(5000.0, 1)])
    assert prior.means(MATRIX[:2]).tolist() == [3.0, 2.0]


def test_whoever_reads_the_prompt_better_is_heard_more() -> None:
    vocabulary = PieceVocabulary([" fox", " dog", "How", " many"])
    says = {"": {" fox": 0.6, " dog": 0.2}}, {"": {" dog": 0.6, " fox": 0.2}}
    for knows, text in ((0, " fox"), (1, " dog")):
        sources = []
        for k, said in enumerate(says):
            script = table(vocabulary, {**said, "How": {" many": 0.9 if k == knows else 1e-3}})
            sources.append(ScriptedSource("ab"[k], vocabulary, script))
        prompt = RawText("How many")
        fusion = Fusion(sources)
        assert fusion.answer(prompt, Settings(weighing="prior")).text == text
        assert fusion.answer(prompt, Settings(weighing="prior", mode="rerank")).text == text
        assert fusion.answer(prompt).text == " fox"  # a tie


# --- Hedge -----------------------------------------------------------------------------------


def test_a_reward_is_the_share_of_wins_in_the_scores_of_others() -> None:
    scores = np.array([[5.0, 1.0, 9.0], [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]])
    assert reward(scores, 0, [1, 2]) == (2 + 0.5) / 4
    assert reward(scores, 2, [0, 1]) == 0.0
    assert reward(scores, 1, [0]) == 1.0
    assert reward(scores, 0, []) == 0.0


def test_weights_grow_with_rewards_and_less_each_time() -> None:
    hedge = Hedge((2.0, 1.0), 2)
    scores = np.array([[1.0, 2.0], [3.0, 4.0]])  # both prefer the first candidate
    for own in ([0, 1], [1, 0], [1, 0]):
        hedge.observe(scores, own)
    logs = np.array([0.5 * 1, 0.5 / math.sqrt(2) + 0.5 / math.sqrt(3)])
    weights = np.array([2.0, 1.0]) * np.exp(logs)
    assert hedge.means(scores).tolist() == pytest.approx((weights @ scores / sum(weights)).tolist())


def test_who_is_not_heard_is_no_judge_and_stays_unheard() -> None:
    hedge = Hedge((1.0, 1.0, 0.0), 3)
    scores = np.array([[1.0, 2.0], [1.0, 2.0], [9.0, 0.0]])
    for _ in range(50):
        hedge.observe(scores, [0, 1, 1])
    gain = 0.5 * sum(t**-0.5 for t in range(1, 51))
    share = 1 / (1 + math.exp(-gain))
    mixed = np.array([[1.0, 9.0], [3.0, 9.0], [math.inf, 9.0]])
    assert hedge.means(mixed)[0] == pytest.approx(share * 1 + (1 - share) * 3)


# --- Trim ------------------------------------------------------------------------------------


def test_scores_over_ten_times_the_smallest_are_left_out() -> None:
    scores = np.array([[1.0, 2.0], [10.0, 30.0], [10.1, 4.0]])
    assert Trim(None, 3).means(scores).tolist() == [5.5, 3.0]
    assert Trim((3.0, 1.0, 1.0), 3).means(scores).tolist() == [13 / 4, 10 / 4]
    assert Trim((0.0, 1.0, 1.0), 3).means(scores).tolist() == [10.05, 17.0]


def test_a_candidate_that_does_not_fit_cannot_win_by_being_trimmed() -> None:
    scores = np.array([[1.0, 5.0], [math.inf, 5.0]])
    assert Trim(None, 2).means(scores).tolist() == [math.inf, 5.0]


# --- Primary ---------------------------------------------------------------------------------


def test_others_are_asked_above_mean_plus_deviation() -> None:
    primary = Primary(None, 2)
    assert not primary.asks(1.0)  # sets the mean
    assert not primary.asks(1.0)
    assert primary.asks(1.1)  # deviation 0
    mean, variance = 1.005, 0.05 * 0.1**2
    edge = mean + math.sqrt(variance)
    assert not replace_state(primary, mean, variance).asks(edge - 1e-9)
    assert replace_state(primary, mean, variance).asks(edge + 1e-9)
    primary = replace_state(primary, mean, variance)
    primary.asks(2.005)  # learns from what it asked about, too
    assert primary._mean == pytest.approx(1.055)
    assert primary._variance == pytest.approx(0.95 * variance + 0.05 * 1.0)


def replace_state(primary: Primary, mean: float, variance: float) -> Primary:
    """After the steps above this is its state; the test of the edge needs it twice."""
    assert primary._mean == pytest.approx(mean)
    assert primary._variance == pytest.approx(variance)
    other = Primary(None, 2)
    other._mean, other._variance = mean, variance
    return other


def test_a_primary_source_writes_alone_until_it_is_unsure() -> None:
    vocabulary = PieceVocabulary([" the", " fox", " dog"])
    sure = {"": {" the": 0.99, " fox": 0.005, " dog": 0.005}}
    unsure = {" the": {" fox": 0.4, " dog": 0.35}}
    other = {"": {" dog": 0.9}, " the": {" dog": 0.9, " fox": 0.01}}
    a = ScriptedSource("a", vocabulary, table(vocabulary, sure | unsure))
    b = ScriptedSource("b", vocabulary, table(vocabulary, other))
    steps, answer = run(Fusion([a, b]), Settings(weighing="primary"))
    assert answer.text == " the dog"
    first, second = steps
    assert [(c.text, c.sources, c.mean) for c in first.candidates] == [(" the", ("a",), None)]
    assert first.passes == {"a": 1, "b": 1}  # which only reads it
    assert [c.sources for c in second.candidates] == [("a",), ("b",)]
    steps, answer = run(Fusion([b, a]), Settings(weighing="primary"))
    assert answer.text == " dog"


def test_a_primary_source_that_is_never_unsure_writes_what_it_writes_alone() -> None:
    sources = [writer_of("a", "The answer is 42."), writer_of("b", "No.")]
    steps, answer = run(Fusion(sources), Settings(weighing="primary"))
    assert answer.text == "The answer is 42."
    assert all(step.winners == ("a",) for step in steps)


def test_in_whole_answers_everybody_is_asked() -> None:
    sources = [writer_of("a", "The answer is 42."), writer_of("b", "No.")]
    steps, _ = run(Fusion(sources), Settings(weighing="primary", mode="rerank"))
    assert [c.sources for c in steps[0].candidates] == [("a",), ("b",)]
    assert steps[0].candidates[0].mean is not None


# --- All of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("weighing", WEIGHINGS)
@given(seed=st.integers(0, 10**6))
def test_one_source_is_not_weighed_and_equal_settings_give_equal_text(
    weighing: str, seed: int
) -> None:
    sources = [
        ScriptedSource(name, v, noise(v, seed + k))
        for k, (name, v) in enumerate(zip("ab", VOCABULARIES, strict=False))
    ]
    fusion, plain = Fusion(sources), Settings(mode="single", max_tokens=30)
    weighed = replace(plain, weighing=weighing)  # type: ignore[arg-type]
    assert run(fusion, weighed)[1].text == run(fusion, plain)[1].text
    fused = replace(weighed, mode="cool")
    assert run(fusion, fused)[1].text == run(fusion, fused)[1].text


def test_weights_learnt_in_an_answer_are_gone_in_the_next() -> None:
    first, second = (weighing_of(Settings(weighing="hedge"), 3) for _ in range(2))
    first.observe(MATRIX, [0, 1, 1])
    assert first.means(MATRIX).tolist() != second.means(MATRIX).tolist()
    assert second.means(MATRIX).tolist() == Weighing(None, 3).means(MATRIX).tolist()


def test_a_prompt_is_scored_only_where_it_is_heard() -> None:
    source = writer_of("a", "No.")
    fusion = Fusion([source, writer_of("b", "Yes.")])
    run(fusion, Settings(weighing="prior"))
    assert source.prompt_score().n_terms == len(VOCABULARIES[0].encode(PROMPT.text.encode())) - 1
    run(fusion, Settings())
    with pytest.raises(CfLocalError, match="nobody announced"):
        source.prompt_score()


def test_sentences_do_not_count_words() -> None:
    with pytest.raises(InputError, match="do not count words"):
        Settings(segments="sentence", segment_words=2)
    with pytest.raises(InputError, match="segment_words"):
        Settings(segment_words=0)
    with pytest.raises(InputError, match="weighing"):
        Settings(weighing="votes")  # type: ignore[arg-type]


def test_an_unsure_ending_counts_as_a_choice() -> None:
    vocabulary = PieceVocabulary([" fox"])
    script = table(vocabulary, {"": {" fox": 1.0}, " fox": {END: 0.5, " fox": 0.49}})
    source = ScriptedSource("a", vocabulary, script)
    source.begin(PROMPT, sampling=Sampling(), tells_uncertainty=True)
    assert source.draft(8).ends
    assert source.uncertainty() == pytest.approx(math.log(2) / 2, abs=1e-3)

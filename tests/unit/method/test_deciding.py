"""A step asks as few sources as it can, and ends as if all had been asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import islice

import pytest
from scripted import PROMPT, VOCABULARIES, agreeing, noise, run, surer, table, writer_of

from cf_local.method.costs import PassCosts
from cf_local.method.deciding import in_order
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.structured import ResponseFormat
from cf_local.testing import END, PieceVocabulary, ScriptedSource
from cf_local.types import Step

WORDS, PARTS, BYTES = VOCABULARIES
ANIMALS = PieceVocabulary([" fox", " dog", " cat"])
TEXT = " the fox is running, 24 the 68.\n\nThen the fox is the 24 👍🏽 run, the 東京. the fox." * 3
Sources = Callable[[], list[ScriptedSource]]
Shares = Mapping[str | int, float]


def saying(name: str, *shares: Shares, cost_s: float = 1.0) -> ScriptedSource:
    """A source of one word (and its end); each of ``shares`` is what it says after one word."""
    says = {"": shares[0], **({" fox": shares[1]} if shares[1:] else {})}
    source = ScriptedSource(name, ANIMALS, table(ANIMALS, says))
    source.costs = PassCosts(((1, cost_s),))
    return source


def first_step(sources: list[ScriptedSource], **weights: float) -> Step:
    """The first step; it is the same when all sources are asked, for what both know."""
    settings = Settings(weights=weights or "equal")
    step = run(Fusion(sources), settings)[0][0]
    full = run(Fusion(sources), replace(settings, all_scores=True))[0][0]
    assert set(full.asked) == {source.info.name for source in sources}
    assert (step.text, step.ends) == (full.text, full.ends)
    known = {(c.text, c.ends): c for c in full.candidates}
    for found in step.candidates:
        same = known[found.text, found.ends]
        assert set(found.sources) <= set(same.sources)
        assert set(found.scores) <= set(step.asked)
        if len(full.candidates) > 1:
            assert {n: same.scores[n] for n in found.scores} == pytest.approx(found.scores)
    return step


# --- Who is asked ---------------------------------------------------------------------------


def test_a_sure_source_with_most_of_the_weight_decides_alone() -> None:
    sources = [saying("a", {" fox": 0.9, " dog": 0.1}), saying("b", {" dog": 1.0})]
    step = first_step(sources, a=3, b=1)
    assert (step.text, step.asked) == (" fox", ("a",))
    (only,) = step.candidates
    assert only.sources == ("a",)
    assert set(only.scores) == {"a"}


def test_the_source_of_the_largest_weight_speaks_first_wherever_it_is_listed() -> None:
    sources = [saying("b", {" dog": 1.0}), saying("a", {" fox": 0.9, " dog": 0.1})]
    assert first_step(sources, a=3, b=1).asked == ("a",)


def test_an_unsure_one_needs_the_second_and_not_the_third() -> None:
    sources = [
        saying("a", {" fox": 0.6, " dog": 0.4}),
        saying("b", {" fox": 0.9, " dog": 0.1}),
        saying("c", {" cat": 1.0}),
    ]
    assert first_step(sources, a=3, b=2, c=1).asked == ("a", "b")


def test_the_cheaper_for_its_weight_is_asked_before_another() -> None:
    def sources(b: float, c: float) -> list[ScriptedSource]:
        return [
            saying("a", {" fox": 0.6, " dog": 0.4}),
            saying("b", {" fox": 0.9, " dog": 0.1}, cost_s=b),
            saying("c", {" fox": 0.9, " dog": 0.1}, cost_s=c),
        ]

    assert first_step(sources(1, 9), a=2, b=1, c=1).asked == ("a", "b")
    assert first_step(sources(9, 1), a=2, b=1, c=1).asked == ("a", "c")


def test_all_are_asked_where_any_may_change_the_winner() -> None:
    sources = [
        saying("a", {" fox": 0.5, " dog": 0.4}),
        saying("b", {" dog": 0.5, " fox": 0.4}),
        saying("c", {" cat": 0.5, " dog": 0.4}),
    ]
    step = first_step(sources)
    assert step.asked == ("a", "b", "c")
    assert [c.text for c in step.candidates] == [" fox", " dog", " cat"]
    assert step.text == " dog"


def test_those_that_were_not_asked_read_the_winner_all_the_same() -> None:
    a, b = saying("a", {" fox": 0.9}, {" dog": 0.9}), saying("b", {" fox": 0.9}, {" dog": 0.9})
    steps, answer = run(Fusion([a, b]), Settings(weights={"a": 9.0}))
    assert [step.asked for step in steps] == [("a",)] * len(steps)
    assert b.sessions[0].n_response_tokens == a.sessions[0].n_response_tokens == 2
    assert answer.passes["b"] == len(steps)


def test_a_tie_goes_to_the_source_listed_first_though_the_other_spoke_first() -> None:
    a = saying("a", {" fox": 0.5, " dog": 0.3}, cost_s=9)
    b = saying("b", {" dog": 0.5, " fox": 0.3})
    step = first_step([a, b])
    assert (step.text, set(step.asked)) == (" fox", {"a", "b"})
    assert [c.sources for c in step.candidates] == [("a",), ("b",)]


def test_a_source_of_weight_zero_is_asked_only_for_what_it_may_propose() -> None:
    sure = saying("a", {" fox": 0.9, " dog": 0.1})
    unsure = saying("a", {" fox": 0.4, " dog": 0.35, " cat": 0.25})
    idea = saying("b", {" dog": 1.0})
    assert first_step([sure, idea], a=1, b=0).asked == ("a",)
    assert first_step([unsure, idea], a=1, b=0).text == " fox"


def test_a_source_of_weight_zero_may_propose_what_wins() -> None:
    """The draft of the other is greedy: its word is not the likeliest."""
    a = saying("a", {" fox": 0.5, " dog": 0.45}, {" cat": 0.4, END: 0.3, " dog": 0.3})
    step = first_step([a, saying("b", {" dog": 1.0})], a=1, b=0)
    assert (step.text, step.asked) == (" dog", ("a", "b"))


def test_the_order_is_that_of_weights_then_of_prices() -> None:
    def order(*about: tuple[float, float]) -> list[int]:
        sources = [saying("abcd"[i], {" fox": 1.0}, cost_s=s) for i, (_, s) in enumerate(about)]
        return in_order([source.sessions[0] for source in sources], [w for w, _ in about])

    assert order((1, 1), (3, 9), (1, 2)) == [1, 0, 2]
    assert order((1, 1), (1, 1), (1, 1)) == [0, 1, 2]
    assert order((2, 9), (2, 1), (1, 1)) == [1, 2, 0]  # of two weights, the cheaper one
    assert order((0, 1), (2, 1), (1, 9)) == [1, 2, 0]


# --- Where not all is asked, and where it is ------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"score": "nll"},
        {"score": "perplexity"},
        {"score": "bits_per_byte"},
        {"segment_words": 2},
        {"segments": "sentence"},
        {"all_scores": True},
    ],
)
def test_all_are_asked_unless_a_word_is_judged_by_its_probability(changes: dict[str, str]) -> None:
    sources = [writer_of("a", TEXT), writer_of("b", TEXT, BYTES)]
    settings = Settings(weights={"a": 99.0}, max_tokens=6)
    assert {s.asked for s in run(Fusion(sources), settings)[0]} == {("a",)}
    steps, _ = run(Fusion(sources), replace(settings, **changes))  # type: ignore[arg-type]
    assert {step.asked for step in steps} == {("a", "b")}


def test_a_source_alone_has_nobody_to_spare() -> None:
    steps, answer = run(Fusion([writer_of("a", " fox run.")]))
    assert {step.asked for step in steps} == {("a",)}
    assert all(step.candidates[0].mean is None for step in steps)
    assert answer.passes == {"a": 3}


def test_a_choice_among_whole_answers_names_all() -> None:
    sources = [writer_of("a", " fox."), writer_of("b", " run.")]
    (whole,), _ = run(Fusion(sources), Settings(mode="rerank", weights={"a": 99.0}))
    assert whole.asked == ("a", "b")


# --- Prefixes and endings -------------------------------------------------------------------


DIGITS = PieceVocabulary([" 8", " 85", "5", " fox", "."])


def digits(name: str, says: Mapping[str, Shares]) -> ScriptedSource:
    return ScriptedSource(name, DIGITS, table(DIGITS, says))


def test_of_two_words_that_begin_alike_the_one_that_is_meant_wins() -> None:
    """Source "a" cuts " 8" and "5" apart: that it begins with " 8" does not speak for " 8"."""
    long = digits("a", {"": {" 8": 0.9}, " 8": {"5": 0.9, " fox": 0.1}, " 85": {".": 0.9}})
    short = digits("b", {"": {" 8": 0.6, " 85": 0.3}, " 8": {" fox": 0.9}, " 85": {".": 0.9}})
    step = first_step([long, short])
    assert step.text == " 85"
    full = run(Fusion([long, short]), Settings(weights="equal", all_scores=True))[0][0]
    scores = {c.text: c.scores["a"] for c in full.candidates}
    assert scores == pytest.approx({" 8": -math.log(0.9 * 0.1), " 85": -math.log(0.9 * 0.9 * 0.9)})


def test_the_prefix_can_win_too() -> None:
    long = digits("a", {"": {" 8": 0.9}, " 8": {"5": 0.5, " fox": 0.45}, " 85": {".": 0.9}})
    short = digits("b", {"": {" 8": 0.9}, " 8": {" fox": 0.9}, " 85": {".": 0.9}})
    step = first_step([long, short])
    assert step.text == " 8"
    assert {c.text for c in step.candidates} == {" 8", " 85"}


def test_ending_and_going_on_share_what_the_word_has() -> None:
    ends = saying("a", {" fox": 0.9}, {END: 0.7, " dog": 0.2})
    goes_on = saying("b", {" fox": 0.9}, {END: 0.2, " dog": 0.7})
    step = first_step([ends, goes_on], a=2, b=1)
    assert (step.text, step.ends) == (" fox", True)
    assert {(c.text, c.ends) for c in step.candidates} == {(" fox", True), (" fox", False)}
    assert first_step([ends, goes_on], a=1, b=2).ends is False
    assert first_step([ends, goes_on], a=9, b=1).asked == ("a",)


def test_an_empty_ending_competes_with_words() -> None:
    silent = saying("a", {END: 0.9, " fox": 0.1})
    talker = saying("b", {" fox": 0.7, END: 0.3})
    assert first_step([silent, talker]).ends
    assert first_step([silent, talker]).text == ""
    assert first_step([silent, talker], b=9).text == " fox"


# --- Sources that have nothing to say -------------------------------------------------------

FORM = ResponseFormat.gbnf('root ::= " fox" | " dog"')


def obeying(name: str, shares: Shares, *, is_stuck: bool = False) -> ScriptedSource:
    def obeys(_grammar: str, text: bytes, ends: bool) -> bool:
        words = (b" fox", b" dog")
        fits = text in words if ends else any(word.startswith(text) for word in words)
        return fits and not is_stuck

    return ScriptedSource(name, ANIMALS, table(ANIMALS, {"": shares}), obeys=obeys)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 9.0}, {"b": 9.0}, {"a": 0.0}])
def test_a_stuck_source_proposes_nothing_and_still_counts(weights: dict[str, float]) -> None:
    def sources() -> list[ScriptedSource]:
        stuck = obeying("a", {" dog": 0.9, " fox": 0.1}, is_stuck=True)
        b, c = obeying("b", {" fox": 0.9}), obeying("c", {" dog": 0.6, " fox": 0.4})
        return [stuck, b, c]

    settings = Settings(weights=weights, response_format=FORM)
    steps, answer = run(Fusion(sources()), settings)
    _, full = run(Fusion(sources()), replace(settings, all_scores=True))
    assert answer.text == full.text
    assert all("a" not in candidate.sources for step in steps for candidate in step.candidates)
    assert full.text == (" dog" if weights.get("a") else " fox")


def test_without_anybody_who_can_go_on_all_were_asked() -> None:
    stuck = [obeying(name, {" fox": 1.0}, is_stuck=True) for name in "ab"]
    steps, answer = run(Fusion(stuck), Settings(weights={"a": 9.0}, response_format=FORM))
    assert (answer.text, answer.finish_reason) == ("", "stuck")
    assert steps[-1].asked == ("a", "b")


# --- The same as if all had been asked ------------------------------------------------------


def first_steps(sources: list[ScriptedSource], settings: Settings) -> list[Step]:
    """The first steps, which are far from the longest answer: nothing is cut there."""
    events = Fusion(sources).stream(PROMPT, settings)
    return [event for event in islice(events, 24) if isinstance(event, Step)]


def compared(sources: Sources, settings: Settings) -> tuple[int, int, int]:
    """Steps, sources asked in them, and steps with several candidates; the winners are the same."""
    steps = first_steps(sources(), settings)
    full = first_steps(sources(), replace(settings, all_scores=True))
    for step, known in zip(steps, full, strict=True):
        assert (step.text, step.ends) == (known.text, known.ends)
        best, same = step.candidates[step.winner], known.candidates[known.winner]
        assert (best.text, best.ends) == (same.text, same.ends)
        if len(best.scores) == len(same.scores):
            assert best.mean == pytest.approx(same.mean)
    n_asked = sum(len(step.asked) for step in steps)
    return len(steps), n_asked, sum(len(step.candidates) > 1 for step in full)


def settings_for(seed: int) -> Settings:
    weights = ("equal", {"a": 2.0}, {"b": 3.0, "c": 0.5}, {"a": 0.0}, {"c": 5.0}, {"b": 0.0})
    return Settings(
        weights=weights[seed % 6],  # type: ignore[arg-type]
        segments=("aligned", "shortest")[seed // 6 % 2],
        repetition_guard=False,
    )


def drawn_sources(kind: str, seed: int) -> list[ScriptedSource]:
    """Three sources that agree now and then, with costs of all kinds."""
    one = VOCABULARIES[seed % 3]
    found = []
    for i, vocabulary in enumerate([one] * 3 if kind == "one vocabulary" else VOCABULARIES):
        script = surer(noise(vocabulary, 3 * seed + i))
        if kind != "noise":
            script = agreeing(vocabulary, TEXT, 3 * seed + i, own=0.1)
        found.append(ScriptedSource("abc"[i], vocabulary, cache(script)))
        found[-1].costs = PassCosts(((1, ((1, 1, 1), (1, 3, 9), (9, 3, 1))[seed % 3][i]),))
    return found


@pytest.mark.parametrize("kind", ["noise", "agreeing", "one vocabulary"])
def test_the_winners_are_those_of_all_scores(kind: str) -> None:
    n_steps = n_asked = n_disputed = 0
    for seed in range(48):
        counts = compared(partial(drawn_sources, kind, seed), settings_for(seed))
        n_steps, n_asked = n_steps + counts[0], n_asked + counts[1]
        n_disputed += counts[2]
    assert n_steps > 1000
    assert n_disputed > n_steps / 5
    assert n_asked < 2.9 * n_steps


@pytest.mark.parametrize("kind", ["noise", "agreeing", "one vocabulary"])
def test_they_are_so_where_segments_are_cut(kind: str) -> None:
    """Within a character or after whitespace, where no word ends."""
    n_steps = n_disputed = 0
    for seed in range(48):
        settings = replace(settings_for(seed), segment_limit=4)
        counts = compared(partial(drawn_sources, kind, seed), settings)
        n_steps, n_disputed = n_steps + counts[0], n_disputed + counts[2]
    assert n_steps > 1000
    assert n_disputed > n_steps / 5

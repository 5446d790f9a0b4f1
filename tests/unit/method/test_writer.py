"""The engine on scripted sources: steps, modes, endings, errors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted import PROMPT, VOCABULARIES, noise, run, split, table, writer_of

from cf_local import trace
from cf_local.errors import Cancelled, CfLocalError, ClosedError, ContextError, InputError
from cf_local.method.writer import Writer
from cf_local.progress import never
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.testing import END, PieceVocabulary, ScriptedSession, ScriptedSource, writes
from cf_local.types import FUSED, MODES, SCORES, Candidate, RawText, Score

WORDS, PARTS, BYTES = VOCABULARIES
TEXT = "The answer is 42.\n\nThe end"


def rivals(**shares: float) -> list[ScriptedSource]:
    """Two sources that say " fox" and " dog" (and end); each gives the other's word a share."""
    vocabulary = PieceVocabulary([" fox", " dog"])
    a = {"": {" fox": 0.6, " dog": shares.get("a", 0.1)}}
    b = {"": {" dog": 0.6, " fox": shares.get("b", 0.1)}}
    return [
        ScriptedSource("a", vocabulary, table(vocabulary, a)),
        ScriptedSource("b", vocabulary, table(vocabulary, b)),
    ]


# --- One step -------------------------------------------------------------------------------


def test_sources_that_agree_are_not_scored() -> None:
    fusion = Fusion([writer_of("a", TEXT, WORDS), writer_of("b", TEXT, PARTS)])
    steps, answer = run(fusion, Settings(all_scores=True))
    assert answer.text == TEXT
    assert answer.finish_reason == "stop"
    for step in steps:
        assert step.winners == step.asked == ("a", "b")
        assert step.candidates[0].mean is None
        assert step.candidates[0].scores == {}


def test_agreement_costs_each_source_its_own_tokens_and_nothing_more() -> None:
    fusion = Fusion([writer_of("a", TEXT, WORDS), writer_of("b", TEXT, PARTS)])
    _, answer = run(fusion)
    assert answer.passes == {
        "a": len(WORDS.encode(TEXT.encode())),
        "b": len(PARTS.encode(TEXT.encode())),
    }


def test_a_disagreement_costs_one_more_pass_a_source() -> None:
    steps, _ = run(Fusion(rivals(a=0.3)))
    assert steps[0].passes == {"a": 2, "b": 2}


def test_the_candidate_with_the_lowest_mean_perplexity_wins() -> None:
    settings = Settings(score="perplexity")
    assert run(Fusion(rivals(a=0.3, b=0.1)), settings)[1].text == " dog"
    assert run(Fusion(rivals(a=0.1, b=0.3)), settings)[1].text == " fox"


def test_a_tie_goes_to_the_first_source() -> None:
    a, b = rivals(a=0.2, b=0.2)
    assert run(Fusion([a, b]))[1].text == " fox"
    assert run(Fusion([b, a]))[1].text == " dog"


def test_a_step_reports_candidates_scores_and_mean() -> None:
    steps, _ = run(Fusion(rivals(a=0.3, b=0.1)), Settings(score="perplexity"))
    fox, dog = steps[0].candidates
    assert (fox.text, fox.ends, fox.sources) == (" fox", True, ("a",))
    assert dog.sources == ("b",)
    # Two terms each: the word, and the end that is certain.
    assert fox.scores == pytest.approx({"a": 0.6**-0.5, "b": 0.1**-0.5})
    assert fox.mean == pytest.approx((0.6**-0.5 + 0.1**-0.5) / 2)
    assert steps[0].winners == ("b",)
    assert set(steps[0].timings_s) == {"draft", "score", "rerank", "commit"}


def test_weights_decide() -> None:
    assert run(Fusion(rivals()), Settings(weights={"b": 3.0}))[1].text == " dog"
    assert run(Fusion(rivals()), Settings(weights={"a": 3.0}))[1].text == " fox"
    assert run(Fusion(rivals(a=0.5, b=1e-9)), Settings(weights={"b": 0.0}))[1].text == " fox"


def test_scores_differ_by_kind() -> None:
    vocabulary = PieceVocabulary([" a", " bcdefgh"])
    says = {"": {" a": 0.5, " bcdefgh": 0.4}}, {"": {" bcdefgh": 0.5, " a": 0.4}}
    sources = [
        ScriptedSource(name, vocabulary, table(vocabulary, said))
        for name, said in zip("ab", says, strict=True)
    ]
    texts = {kind: run(Fusion(sources), Settings(score=kind))[1].text for kind in SCORES}  # type: ignore[arg-type]
    assert texts == {"mixture": " a", "nll": " a", "perplexity": " a", "bits_per_byte": " bcdefgh"}


def test_the_ending_belongs_to_the_last_word() -> None:
    vocabulary = PieceVocabulary([" 68."])
    steps, answer = run(Fusion([writer_of("a", "It is 68.", vocabulary)]))
    assert (steps[-1].text, steps[-1].ends) == (" 68.", True)
    assert answer.finish_reason == "stop"


def test_ending_and_going_on_are_different_candidates() -> None:
    vocabulary = PieceVocabulary([" 68", " fox"])
    ends = table(vocabulary, {"": {" 68": 0.9}, " 68": {END: 0.6, " fox": 0.3}})
    goes_on = table(vocabulary, {"": {" 68": 0.9}, " 68": {" fox": 0.9, END: 0.1}})
    sources = [ScriptedSource("a", vocabulary, ends), ScriptedSource("b", vocabulary, goes_on)]
    steps, _ = run(Fusion(sources))
    assert [(c.text, c.ends) for c in steps[0].candidates] == [(" 68", True), (" 68", False)]
    assert steps[0].passes == {"a": 2, "b": 2}


def test_an_answer_may_be_empty() -> None:
    steps, answer = run(Fusion([writer_of("a", ""), writer_of("b", "")]))
    assert (answer.text, answer.finish_reason, len(steps)) == ("", "stop", 1)
    assert steps[0].ends


def test_a_source_goes_on_with_a_word_that_another_ended() -> None:
    vocabulary = PieceVocabulary([" 8", " fox"])
    digits = PieceVocabulary([" 85", " 8", "5", " fox"])
    a = table(vocabulary, {"": {" 8": 0.9}, " 8": {" fox": 0.9}})
    b = table(digits, {"": {" 85": 0.9, " 8": 0.1}, " 8": {"5": 0.99}, " 85": {END: 1.0}})
    fusion = Fusion([ScriptedSource("a", vocabulary, a), ScriptedSource("b", digits, b)])
    settings = Settings(segments="shortest", weights={"b": 0.01}, all_scores=True)
    steps, answer = run(fusion, settings)
    assert steps[0].text == " 8"
    assert [c.text for c in steps[1].candidates] == [" fox", "5"]
    assert answer.text == " 8 fox"


def test_the_response_is_shared_whatever_the_vocabularies() -> None:
    """The one that departs continues after what won, byte for byte."""
    strong = writer_of("a", "def f():\n    return 1\n", PieceVocabulary(["    ", " return"]))
    weak = ScriptedSource("b", BYTES, writes("def g(x):\n\treturn", BYTES, confidence=0.2))
    assert run(Fusion([strong, weak]), Settings(weights={"b": 0.01}))[1].text == (
        "def f():\n    return 1\n"
    )


# --- Endings --------------------------------------------------------------------------------


def test_max_tokens_end_an_answer_by_length() -> None:
    steps, answer = run(Fusion([writer_of("a", TEXT, BYTES)]), Settings(max_tokens=6))
    assert (answer.text, answer.finish_reason) == (TEXT[:6], "length")
    assert answer.passes["a"] <= 6 + 6
    assert not steps[-1].ends


def test_the_source_that_needs_fewest_tokens_counts_for_max_tokens() -> None:
    text = " fox ran" * 20
    coarse, fine = writer_of("a", text, WORDS), writer_of("b", text, BYTES)
    settings = Settings(max_tokens=8, repetition_guard=False)
    _, alone = run(Fusion([writer_of("a", text, WORDS)]), settings)
    _, answer = run(Fusion([coarse, fine]), settings)
    assert answer.finish_reason == "length"
    assert (alone.text, answer.text) == (" fox ran fox r", " fox ran fox ran")  # a whole word
    assert 8 <= coarse.sessions[0].n_response_tokens < fine.sessions[0].n_response_tokens


def test_a_full_context_ends_an_answer_by_length() -> None:
    n_prompt = len(PROMPT.text)
    source = ScriptedSource("a", BYTES, writes(TEXT, BYTES), n_ctx=n_prompt + 9)
    _, answer = run(Fusion([source]))
    assert (answer.text, answer.finish_reason) == (TEXT[:9], "length")


@pytest.mark.parametrize("limit", [1, 3, 32])
def test_a_segment_without_a_boundary_is_cut_and_nothing_is_lost(limit: int) -> None:
    text = "https" + "x" * 100 + "é東👍🏽" * 5 + " end"
    fusion = Fusion([writer_of("a", text, BYTES), writer_of("b", text, PieceVocabulary(["xxx"]))])
    steps, answer = run(fusion, Settings(segment_limit=limit, repetition_guard=False))
    assert answer.text == text
    assert answer.finish_reason == "stop"
    assert all(len(step.text.encode()) <= 3 * limit + 3 for step in steps)


class WithControl(PieceVocabulary):
    """Token 999 is a control token: it has no text."""

    def piece(self, token: int) -> bytes:
        return b"" if token == 999 else super().piece(token)


@pytest.mark.parametrize("mode", MODES)
def test_a_source_that_writes_only_control_tokens_has_ended(mode: str) -> None:
    mute = ScriptedSource("mute", WithControl([]), lambda _response: {999: 1.0})
    _, answer = run(Fusion([mute]), Settings(mode=mode, max_tokens=40))  # type: ignore[arg-type]
    assert (answer.text, answer.finish_reason) == ("", "stop")


@pytest.mark.parametrize("mode", MODES)
def test_control_tokens_alone_are_scored_as_an_ending(mode: str) -> None:
    mute = ScriptedSource("mute", WithControl([]), lambda _response: {999: 1.0})
    fusion = Fusion([writer_of("a", "The end."), mute])
    settings = Settings(mode=mode, max_tokens=9, score="nll", weights={"mute": 1e-3})  # type: ignore[arg-type]
    steps, answer = run(fusion, settings)
    assert answer.text == "The end."
    for step in steps:
        assert all(c.mean is None or c.mean == c.mean for c in step.candidates)  # no NaN


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_string_across_segments_ends_the_answer(mode: str) -> None:
    text = "I am.\nUsual.\nUser: you"
    fusion = Fusion([writer_of("a", text, WORDS), writer_of("b", text, BYTES)])
    _, answer = run(fusion, Settings(mode=mode, stop=("\nUser:",)))  # type: ignore[arg-type]
    assert (answer.text, answer.finish_reason) == ("I am.\nUsual.", "stop")


def test_a_possible_stop_string_is_shown_once_it_is_none() -> None:
    steps, answer = run(Fusion([writer_of("a", "I am.\nUs", BYTES)]), Settings(stop=("\nUser:",)))
    assert answer.text == "I am.\nUs"
    assert steps[-1].text == "\nUs"


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_ends_by_repetition(mode: str) -> None:
    fusion = Fusion([writer_of("a", "Well." + " and so on" * 60)])
    _, answer = run(fusion, Settings(mode=mode))  # type: ignore[arg-type]
    assert answer.finish_reason == "repetition"
    assert len(answer.text) < 400
    off = Settings(mode=mode, repetition_guard=False, max_tokens=700)  # type: ignore[arg-type]
    assert run(fusion, off)[1].finish_reason in ("stop", "length")


# --- Modes ----------------------------------------------------------------------------------


def trio() -> list[ScriptedSource]:
    """Three opinions; "c" is surest of its own, and doubts the others least."""
    return [
        ScriptedSource("a", WORDS, writes("The fox is 24.", WORDS, confidence=0.3)),
        ScriptedSource("b", PARTS, writes("The fox is 68.", PARTS, confidence=0.4)),
        ScriptedSource("c", BYTES, writes("The cat is here", BYTES, confidence=0.9)),
    ]


@pytest.mark.parametrize("name", ["a", "b", "c", None])
def test_single_lets_one_source_speak(name: str | None) -> None:
    sources = trio()
    _, answer = run(Fusion(sources), Settings(mode="single", only=name))
    expected = {"a": "The fox is 24.", "b": "The fox is 68.", "c": "The cat is here"}[name or "a"]
    assert answer.text == expected
    assert answer.chosen == (name or "a")
    assert list(answer.passes) == [name or "a"]
    assert all(
        s.sessions[0].counters.n_passes == 0 for s in sources if s.info.name != (name or "a")
    )


def test_rerank_chooses_among_whole_answers_in_one_step() -> None:
    fusion = Fusion(trio())
    steps, answer = run(fusion, Settings(mode="rerank", score="nll"))
    (step,) = steps
    assert step.whole
    assert step.ends
    assert {c.text for c in step.candidates} == {
        run(fusion, Settings(mode="single", only=name))[1].text for name in "abc"
    }
    assert answer.chosen == step.winners[0]
    assert min(c.mean or 0 for c in step.candidates) == step.candidates[step.winner].mean


def test_rerank_of_equal_answers_scores_nothing() -> None:
    steps, answer = run(
        Fusion([writer_of("a", TEXT), writer_of("b", TEXT, BYTES)]), Settings(mode="rerank")
    )
    assert steps[0].winners == ("a", "b")
    assert steps[0].candidates[0].mean is None
    assert answer.chosen == "a"


def test_cool_with_rerank_shows_the_fused_steps_then_the_choice() -> None:
    fusion = Fusion(trio())
    fused_steps, fused = run(fusion, Settings(mode="cool", score="nll"))
    steps, answer = run(fusion, Settings(mode="cool+r", score="nll"))
    assert [step.text for step in steps[:-1]] == [step.text for step in fused_steps]
    whole = steps[-1]
    assert whole.whole
    proposers = {source: c.text for c in whole.candidates for source in c.sources}
    assert proposers[FUSED] == fused.text
    assert set(proposers) == {"a", "b", "c", FUSED}
    assert answer.chosen == whole.winners[0]
    assert answer.text == whole.text == whole.candidates[whole.winner].text


@pytest.mark.parametrize("name", ["cool", "fused", "cool+r"])
def test_a_source_may_be_named_like_a_mode(name: str) -> None:
    """The trace shows the steps of the text that was chosen, whoever wrote it."""
    chosen = set()
    for seed in range(20):
        sources = [
            ScriptedSource(each, WORDS, noise(WORDS, seed + i, end=0.3))
            for i, each in enumerate((name, "b"))
        ]
        steps, answer = run(Fusion(sources), Settings(mode="cool+r", max_tokens=12))
        assert "".join(step.text for step in trace.shown(steps)) == answer.text
        chosen.add(answer.chosen)
    assert {name, FUSED} <= chosen


def test_no_source_can_be_named_like_the_fused_answer() -> None:
    with pytest.raises(InputError, match="marks the fused answer"):
        Fusion([writer_of(FUSED, "a")])


@given(st.integers(0, 10_000), st.sampled_from(["rerank", "cool+r"]), st.sampled_from(SCORES))
def test_not_scoring_what_cannot_win_does_not_change_who_wins(
    seed: int, mode: str, score: str
) -> None:
    def trio_of_noise() -> Fusion:
        return Fusion(
            [
                ScriptedSource(name, vocabulary, noise(vocabulary, seed + i, end=0.3))
                for i, (name, vocabulary) in enumerate(zip("abc", VOCABULARIES, strict=True))
            ]
        )

    settings = Settings(mode=mode, score=score, max_tokens=12)  # type: ignore[arg-type]
    every, answer = run(trio_of_noise(), replace(settings, all_scores=True))
    some, same = run(trio_of_noise(), settings)
    assert (same.text, same.chosen) == (answer.text, answer.chosen)
    full, partial = every[-1].candidates, some[-1].candidates
    for one, other in zip(full, partial, strict=True):
        assert one.scores | other.scores == one.scores
        assert other.mean in (one.mean, None)
        assert (other.mean is None) == (len(other.scores) < len(one.scores) or one.mean is None)


def test_an_answer_that_cannot_win_any_more_is_not_read() -> None:
    def sure_and_unsure() -> Fusion:
        vocabulary = PieceVocabulary([" fox", " dog"])
        sure = table(vocabulary, {"": {" fox": 0.95, " dog": 0.01}})
        unsure = table(vocabulary, {"": {" dog": 0.5, " fox": 0.45}, " dog": {" fox": 0.02}})
        return Fusion(
            [ScriptedSource("a", vocabulary, sure), ScriptedSource("b", vocabulary, unsure)]
        )

    settings = Settings(mode="rerank", score="nll")
    (whole,), answer = run(sure_and_unsure(), settings)
    fox, dog = whole.candidates
    assert answer.text == " fox"
    assert set(fox.scores) == {"a", "b"}
    assert set(dog.scores) == {"b"}
    assert dog.mean is None
    _, full = run(sure_and_unsure(), replace(settings, all_scores=True))
    assert full.passes["a"] == answer.passes["a"] + 1


def test_the_answer_names_sources_modes_and_costs() -> None:
    _, answer = run(Fusion(trio()))
    assert answer.mode == "cool"
    assert answer.chosen == FUSED
    assert [info.name for info in answer.sources] == ["a", "b", "c"]
    assert answer.prompt_tokens["c"] == len(PROMPT.text)
    assert answer.elapsed_s > 0


def test_passes_of_steps_add_up_to_those_of_the_answer() -> None:
    for mode in MODES:
        steps, answer = run(Fusion(trio()), Settings(mode=mode))  # type: ignore[arg-type]
        for name, n_passes in answer.passes.items():
            assert sum(step.passes[name] for step in steps) == n_passes


def test_equal_models_sample_with_seeds_of_their_own() -> None:
    sources = [ScriptedSource(name, WORDS, noise(WORDS, 3)) for name in "ab"]
    settings = Settings(sampling=Sampling(temperature=1.0, seed=5), max_tokens=40)
    steps, answer = run(Fusion(sources), settings)
    assert any(len(step.candidates) == 2 for step in steps)
    assert run(Fusion(sources), settings)[1].text == answer.text


@hypothesis_settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n_sources=st.integers(1, 3),
    settings=st.builds(
        Settings,
        mode=st.sampled_from(MODES),
        score=st.sampled_from(SCORES),
        segments=st.sampled_from(("aligned", "shortest")),
        max_tokens=st.integers(1, 40),
        segment_limit=st.integers(1, 8),
        stop=st.sampled_from(((), (" 24",), ("n", "\n\n"))),
    ),
)
def test_any_sources_write_an_answer_that_is_the_sum_of_its_steps(
    seed: int, n_sources: int, settings: Settings
) -> None:
    fusion = Fusion(
        [
            ScriptedSource(name, vocabulary, noise(vocabulary, seed + i))
            for i, (name, vocabulary) in enumerate(
                zip("abc", VOCABULARIES[:n_sources], strict=False)
            )
        ]
    )
    steps, answer = run(fusion, settings)  # which checks the sum
    assert answer.finish_reason in ("stop", "length", "repetition")
    assert not any(stop in answer.text for stop in settings.stop)
    fused = [step for step in steps if not step.whole]
    assert all(not step.ends for step in fused[:-1])
    assert len(fused) <= settings.max_tokens


# --- Cancelling and errors ------------------------------------------------------------------


def test_cancel_keeps_what_was_written() -> None:
    fusion = Fusion([writer_of("a", TEXT, WORDS), writer_of("b", TEXT, BYTES)])
    events = []
    for event in fusion.stream(PROMPT):
        events.append(event)
        if len(events) == 2:
            fusion.cancel()
    steps, answer = split(events)
    assert answer.finish_reason == "cancelled"
    assert len(steps) == 2
    assert TEXT.startswith(answer.text)
    assert answer.text
    assert run(fusion)[1].text == TEXT  # cancelling is for one answer


@pytest.mark.parametrize("n_more", range(0, 60, 7))
@pytest.mark.parametrize("mode", MODES)
def test_cancel_at_any_pass_ends_in_an_answer(mode: str, n_more: int) -> None:
    sessions = tuple(source.sessions[0] for source in trio())
    n_asked = iter(range(10**6))
    writer = Writer(sessions, Settings(mode=mode), lambda: next(n_asked) >= n_more)  # type: ignore[arg-type]
    steps = []
    try:
        for _ in writer.prefill(PROMPT):
            pass
        for step in writer.steps():
            steps += [step] if step is not None else []
    except Cancelled:
        writer.finish_reason = "cancelled"
    writer.rollback()
    _, answer = split([*steps, writer.answer()])
    whole = "The cat is here"
    assert whole.startswith(answer.text)
    assert answer.finish_reason == "cancelled" or answer.text == whole


def test_cancel_while_the_prompt_is_read_leaves_an_empty_answer() -> None:
    fusion = Fusion([writer_of("a", TEXT)])
    events = fusion.stream(PROMPT, on_progress=lambda _share: fusion.cancel())
    steps, answer = split(list(events))
    assert (steps, answer.text, answer.finish_reason) == ([], "", "cancelled")


class Failing(ScriptedSource):
    """Fails in one of its session's calls."""

    fails_in = ""

    def open_session(self) -> ScriptedSession:
        return FailingSession(self)


class FailingSession(ScriptedSession):
    source: Failing

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool = False) -> list[Score]:
        if self.source.fails_in == "score":
            raise ContextError("full")
        return super().score(candidates, word_ends=word_ends)

    def commit(self, candidate: Candidate) -> None:
        if self.source.fails_in == "commit":
            raise CfLocalError("broken")
        super().commit(candidate)


@pytest.mark.parametrize("call", ["score", "commit"])
def test_an_error_leaves_no_drafts_and_the_next_answer_works(call: str) -> None:
    a, b = rivals(a=0.3)
    bad = Failing("bad", PARTS, writes(TEXT, PARTS, confidence=0.01))
    bad.fails_in = call
    fusion = Fusion([a, b, bad])
    with pytest.raises(CfLocalError, match=r"full|broken"):
        fusion.answer(PROMPT)
    for source in (a, b, bad):
        with pytest.raises(CfLocalError, match="no draft"):
            source.sessions[0].extend(1)
    bad.fails_in = ""
    assert fusion.answer(PROMPT).text


def test_a_prompt_that_does_not_fit_one_source_is_an_error_and_the_fusion_lives() -> None:
    small = ScriptedSource("small", BYTES, writes(TEXT, BYTES), n_ctx=40)
    fusion = Fusion([writer_of("a", TEXT), small])
    with pytest.raises(ContextError, match="small"):
        fusion.answer(RawText("x" * 41))
    assert fusion.answer(PROMPT).text == TEXT


def test_an_abandoned_stream_frees_the_fusion() -> None:
    fusion = Fusion([writer_of("a", TEXT)])
    for _ in fusion.stream(PROMPT):
        break
    assert fusion.answer(PROMPT).text == TEXT


# --- The fusion itself ----------------------------------------------------------------------


def test_one_answer_at_a_time() -> None:
    fusion = Fusion([writer_of("a", TEXT)])
    events = fusion.stream(PROMPT)
    first = next(events)
    with pytest.raises(CfLocalError, match="already"):
        fusion.answer(PROMPT)
    assert split([first, *events])[1].text == TEXT  # the first goes on undisturbed


def test_a_closed_fusion_refuses_work_and_closes_its_sources() -> None:
    sources = [writer_of("a", TEXT), writer_of("b", TEXT)]
    with Fusion(sources) as fusion:
        assert fusion.answer(PROMPT).text == TEXT
    fusion.close()
    with pytest.raises(ClosedError):
        fusion.answer(PROMPT)
    for source in sources:
        with pytest.raises(ClosedError):
            source.sessions[0].draft(1)


def test_close_does_not_wait_for_a_stream_left_unfinished_by_the_same_thread() -> None:
    fusion = Fusion([writer_of("a", TEXT)])
    events = fusion.stream(PROMPT)
    next(events)
    fusion.close()
    with pytest.raises(ClosedError):
        next(events)


def test_close_from_another_thread_ends_the_answer_first() -> None:
    fusion = Fusion([writer_of("a", " fox" * 3000)])
    events = fusion.stream(PROMPT, Settings(max_tokens=3000, repetition_guard=False))
    next(events)
    closer = threading.Thread(target=fusion.close)
    closer.start()
    *_, answer = events
    closer.join(timeout=10)
    assert not closer.is_alive()
    assert answer.finish_reason == "cancelled"  # type: ignore[union-attr]


def test_a_fusion_needs_sources_with_different_names() -> None:
    for sources in ([], [writer_of("a", ""), writer_of("a", "")]):
        with pytest.raises(InputError):
            Fusion(sources)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(weights={"nobody": 1.0}),
        Settings(weights={"a": 0.0, "b": 0.0}),
        Settings(mode="single", only="nobody"),
    ],
)
def test_settings_must_match_the_sources(settings: Settings) -> None:
    with pytest.raises(InputError):
        Fusion(rivals(), settings)
    fusion = Fusion(rivals())
    with pytest.raises(InputError):
        fusion.answer(PROMPT, settings)
    assert fusion.answer(PROMPT).text


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fast"},
        {"score": "votes"},
        {"segments": "long"},
        {"weights": {"a": -1.0}},
        {"weights": {"a": float("nan")}},
        {"max_tokens": 0},
        {"segment_limit": 0},
        {"stop": ("",)},
        {"sampling": Sampling(temperature=-1)},
        {"sampling": Sampling(top_p=1.5)},
        {"sampling": Sampling(min_p=float("inf"))},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_a_writer_can_be_used_without_a_fusion() -> None:
    writer = Writer((writer_of("a", TEXT).sessions[0],), Settings(), never)
    assert [*writer.prefill(PROMPT)] == [1.0]
    assert "".join(s.text for s in writer.steps() if s) == TEXT == writer.answer().text

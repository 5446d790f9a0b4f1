"""How the engine does with sources that a form leaves no token: they abstain."""

from __future__ import annotations

import pytest
from scripted import PROMPT, run, split

from cf_local.errors import InputError
from cf_local.method.session import prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.structured import ResponseFormat
from cf_local.testing import PieceVocabulary, ScriptedSource, writes
from cf_local.types import FUSED, MODES, Candidate

FORM = ResponseFormat.gbnf('root ::= " yes" | " no"')
ALLOWED = (b" yes", b" no")
VOCABULARY = PieceVocabulary([" yes", " no", " may", "be"])


def obeys(_grammar: str, text: bytes, ends: bool) -> bool:
    if ends:
        return text in ALLOWED
    return any(allowed.startswith(text) for allowed in ALLOWED)


def never(_grammar: str, _text: bytes, _ends: bool) -> bool:
    return False


def source(name: str, text: str, rule: object = obeys) -> ScriptedSource:
    return ScriptedSource(name, VOCABULARY, writes(text, VOCABULARY), obeys=rule)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_allowed_is_not_drafted(mode: str) -> None:
    fusion = Fusion([source("a", " maybe"), source("b", " yes")])
    _, answer = run(fusion, Settings(mode=mode, response_format=FORM))  # type: ignore[arg-type]
    assert answer.text in (" yes", " no")
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("mode", ["cool", "rerank", "cool+r"])
def test_a_source_without_any_token_abstains(mode: str) -> None:
    fusion = Fusion([source("mute", " no", never), source("b", " yes"), source("c", " no")])
    settings = Settings(mode=mode, response_format=FORM)  # type: ignore[arg-type]
    steps, answer = run(fusion, settings)
    assert answer.text in (" yes", " no")
    assert answer.finish_reason == "stop"
    proposers = {name for step in steps for c in step.candidates for name in c.sources}
    assert proposers <= {"b", "c", FUSED}


@pytest.mark.parametrize("mode", MODES)
def test_without_anybody_who_can_go_on_the_answer_is_stuck(mode: str) -> None:
    fusion = Fusion([source("a", " no", never), source("b", " yes", never)])
    events = list(fusion.stream(PROMPT, Settings(mode=mode, response_format=FORM)))  # type: ignore[arg-type]
    steps, answer = split(events)
    assert answer.finish_reason == "stuck"
    assert answer.text == ""
    assert len(steps) <= 2


def test_a_draft_that_runs_into_a_dead_end_says_nothing() -> None:
    def dead_end(_grammar: str, text: bytes, ends: bool) -> bool:
        return not ends and b" may".startswith(text)

    blocked = source("a", " maybe", dead_end)
    one = blocked.sessions[0]
    prefill(one, PROMPT, sampling=Sampling(), grammar=FORM.grammar)
    draft = one.draft(8)
    assert (draft.text, draft.ends, draft.lookahead, draft.is_stuck) == (b" may", False, b"", True)
    assert one.extend(8) == draft
    fusion = Fusion([blocked, source("b", " yes")])
    steps, answer = run(fusion, Settings(response_format=FORM))
    assert answer.text == " yes"
    assert steps[0].candidates[0].sources == ("b",)


def test_scores_are_those_without_the_form() -> None:
    one = source("a", " maybe").sessions[0]
    candidate = Candidate(b" yes", True)
    prefill(one, PROMPT, sampling=Sampling())
    free = one.score([candidate])
    prefill(one, PROMPT, sampling=Sampling(), grammar=FORM.grammar)
    assert one.score([candidate]) == free


def test_a_script_that_knows_no_grammar_refuses_one() -> None:
    mute = ScriptedSource("a", VOCABULARY, writes(" yes", VOCABULARY))
    with pytest.raises(InputError, match="grammar"):
        prefill(mute.sessions[0], PROMPT, sampling=Sampling(), grammar=FORM.grammar)

"""A limit for thinking, on scripted sources: where it is ended, and that all else goes on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from scripted import PROMPT, VOCABULARIES, run, thinker, writer_of

from cf_local.method.thinking import Budget, opening_of
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.structured.calls import TalkEnd
from cf_local.testing import PieceVocabulary, Script, ScriptedSource, writes
from cf_local.types import MODES, Answer, Chat, Message, SourceInfo, Step, chat

WORDS, PARTS, BYTES = VOCABULARIES
ASKED = chat(PROMPT.text)
END = "\n</think>\n\n"


def thinks_on(vocabulary: PieceVocabulary, thought: str, answer: str) -> Script:
    """Thinks without an end; once the thinking is closed, it answers."""
    thinking, answering = writes(thought, vocabulary), writes(answer, vocabulary)

    def script(response: bytes) -> Mapping[int, float]:
        _, closed, rest = response.partition(b"</think>\n\n")
        return answering(rest) if closed else thinking(response)

    return script


def thinkers(thought: str = " one two three four five six", answer: str = "It is 42.") -> Fusion:
    return Fusion(
        [
            thinker(name, v, thinks_on(v, thought, answer))
            for name, v in (("a", WORDS), ("b", PARTS))
        ]
    )


@pytest.mark.parametrize("mode", MODES)
def test_thinking_ends_and_the_answer_follows(mode: str) -> None:
    settings = Settings(mode=mode, max_thinking_tokens=9)  # type: ignore[arg-type]
    steps, answer = run(thinkers(), settings, ASKED)
    thought, rest = answer.text.split(END)
    assert rest == "It is 42."
    assert " one two three four five six".startswith(thought.rstrip("\n"))
    assert answer.finish_reason == "stop"
    if mode in ("cool", "single"):
        (ended,) = [step for step in steps if not step.winners]
        assert (ended.text, ended.asked, ended.ends) == (END, (), False)
        assert ended.candidates[0].scores == {}
        assert ended.candidates[0].mean is None


def test_it_ends_after_the_word_in_which_every_source_has_so_many_tokens() -> None:
    for most in range(1, 20):
        steps, _ = run(thinkers(), Settings(max_thinking_tokens=most), ASKED)
        at = next(i for i, step in enumerate(steps) if not step.winners)
        *before, last = ["".join(step.text for step in steps[:n]) for n in range(at + 1)]
        lengths = [
            min(len(v.encode(text.encode())) for v in (WORDS, PARTS)) for text in (*before, last)
        ]
        assert lengths[-1] >= most
        assert all(n < most for n in lengths[:-1])


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_of_none_is_not_to_think(mode: str) -> None:
    settings = Settings(mode=mode, max_thinking_tokens=0)  # type: ignore[arg-type]
    _, answer = run(thinkers(), settings, ASKED)
    assert answer.text == f"{END}It is 42."


def test_thinking_that_a_model_opens_ends_with_its_own_tag() -> None:
    vocabulary = PieceVocabulary(["<reason", "ing>", " hm"])

    def script(response: bytes) -> Mapping[int, float]:
        done, closed, rest = response.partition(b"</reasoning>\n\n")
        text = "<reasoning>" + " hm" * 50
        return writes("Yes.", vocabulary)(rest) if closed else writes(text, vocabulary)(done)

    fusion = Fusion([ScriptedSource("a", vocabulary, script)])
    _, answer = run(fusion, Settings(max_thinking_tokens=3))
    assert answer.text == "<reasoning> hm hm hm\n</reasoning>\n\nYes."


@pytest.mark.parametrize(
    "text", ["No thoughts at all, and long.", "<think>Hm.</think>\n\nFor long."]
)
def test_answers_have_no_such_limit(text: str) -> None:
    _, answer = run(Fusion([writer_of("a", text)]), Settings(max_thinking_tokens=8))
    assert answer.text == text


def test_a_closing_tag_that_has_begun_is_not_cut() -> None:
    fusion = Fusion([thinker("a", BYTES, writes(" so</think>\n\nYes.", BYTES))])
    _, answer = run(fusion, Settings(max_thinking_tokens=4), ASKED)  # within the tag
    assert answer.text == " so</think>\n\nYes."


def test_a_character_is_not_cut() -> None:
    budget = Budget(1, "<think>")
    assert budget.closing(b"", [0]) == b""
    assert budget.closing("é".encode()[:1], [1]) == b""
    assert budget.closing("é".encode()[1:], [2]) == END.encode()


def test_a_call_of_a_tool_is_not_cut() -> None:
    for form, text, is_call in (
        ("tags", "<tool_call>{", True),
        ("tags", "Hm. <tool", True),
        ("tags", "Hm.", False),
        ("json", ' {"name', True),
        ("json", "Hm. {", False),
        ("json", "", True),
    ):
        budget = Budget(0, "<think>", TalkEnd(form))  # type: ignore[arg-type]
        assert budget.closing(b"", [0]) == b""
        assert budget.closing(text.encode(), [9]) == (b"" if is_call else END.encode())


def test_a_line_is_ended_once() -> None:
    budget = Budget(2, "[THINK]")
    assert budget.closing(b"", [0]) == b""
    assert budget.closing(b"Hm.\n", [2]) == b"[/THINK]\n\n"


def test_the_answer_still_ends_at_max_tokens() -> None:
    n_thinking = len(WORDS.encode(b" one two"))
    for most in range(n_thinking + 1, n_thinking + 30):
        _, answer = run(
            thinkers(),
            Settings(max_thinking_tokens=n_thinking, max_tokens=most, mode="rerank"),
            ASKED,
        )
        assert answer.finish_reason in ("length", "stop")
    _, answer = run(thinkers(), Settings(max_thinking_tokens=9, max_tokens=9), ASKED)
    assert (answer.finish_reason, "</think>" in answer.text) == ("length", False)


@pytest.mark.parametrize("mode", MODES)
def test_a_context_that_is_full_ends_the_answer(mode: str) -> None:
    n_prompt = len(BYTES.encode(PROMPT.text.encode()))
    script = thinks_on(BYTES, " one two three four five six", "Yes.")
    for n_ctx in range(n_prompt + 1, n_prompt + 40):
        source = thinker("a", BYTES, script)
        source.n_ctx = n_ctx
        settings = Settings(mode=mode, max_thinking_tokens=6)  # type: ignore[arg-type]
        _, answer = run(Fusion([source]), settings, ASKED)
        assert answer.finish_reason in ("length", "stop")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop", ["</think>", "\n\n", "It"])
def test_stop_strings_see_the_end_of_the_thinking(mode: str, stop: str) -> None:
    settings = Settings(mode=mode, max_thinking_tokens=9, stop=(stop,))  # type: ignore[arg-type]
    _, answer = run(thinkers(), settings, ASKED)
    assert answer.finish_reason == "stop"
    assert stop not in answer.text
    assert answer.text.startswith(" one")


def test_a_loop_in_thinking_is_ended_by_what_comes_first() -> None:
    looping = thinkers(" again" * 200)
    _, answer = run(looping, Settings(max_thinking_tokens=100), ASKED)
    assert (answer.finish_reason, answer.text.split(END)[1]) == ("stop", "It is 42.")
    _, answer = run(looping, Settings(max_thinking_tokens=900), ASKED)
    assert answer.finish_reason == "repetition"


@pytest.mark.parametrize("mode", ["cool", "rerank"])
def test_a_started_answer_counts_from_where_it_goes_on(mode: str) -> None:
    turns = (*ASKED.messages, Message("assistant", " one two"))
    settings = Settings(mode=mode, max_thinking_tokens=4)  # type: ignore[arg-type]
    *_, answer = thinkers().stream(Chat(turns), settings)
    assert isinstance(answer, Answer)
    assert answer.text.startswith(" three")
    assert answer.text.endswith(f"{END}It is 42.")


def test_answers_written_in_turns_have_their_own_limits() -> None:
    sources = [
        ScriptedSource(name, v, thinks_on(v, " one two three four five six", "Yes."), n_sessions=2)
        for name, v in (("a", WORDS), ("b", PARTS))
    ]
    for source in sources:
        source.info = SourceInfo(source.info.name, "", opens_thinking={True: "<think>"})
    fusion = Fusion(sources)
    thinking = Chat(ASKED.messages, thinks=True)
    limits = (5, 12, None)
    alone = [fusion.answer(thinking, Settings(max_thinking_tokens=n)).text for n in limits]
    streams = [fusion.stream(thinking, Settings(max_thinking_tokens=n)) for n in limits[:2]]
    texts = ["", ""]
    for _ in range(60):
        for i, stream in enumerate(streams):
            event = next(stream, None)
            texts[i] += event.text if isinstance(event, Step) else ""
    assert texts == alone[:2]
    assert "</think>" not in alone[2]


def test_the_tag_of_the_prompt() -> None:
    plain, seed = SourceInfo("a", ""), SourceInfo("b", "", opens_thinking={True: "<seed:think>"})
    assert opening_of(Chat(ASKED.messages, thinks=True), (plain, seed)) == "<seed:think>"
    assert opening_of(Chat(ASKED.messages, thinks=False), (plain, seed)) == ""
    assert opening_of(PROMPT, (seed,)) == ""

"""Turns of a chat: what stays, what is left out, what a failure leaves behind."""

from __future__ import annotations

import pytest
from scripted import VOCABULARIES

from cf_local.errors import CfLocalError, ContextError
from cf_local.runtime.conversation import RESERVE_TOKENS, Conversation
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.testing import ScriptedSession, ScriptedSource, writes
from cf_local.types import Answer, Candidate, Message, Step

BYTES = VOCABULARIES[2]  # one token a byte, so that lengths can be counted
ANSWER = "It is 42."


def fusion_of(n_ctx: int = 4096, text: str = ANSWER) -> Fusion:
    return Fusion([ScriptedSource("a", BYTES, writes(text, BYTES), n_ctx=n_ctx)])


def roles(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def ask(conversation: Conversation, fusion: Fusion, question: str, **options: object) -> Answer:
    *_, answer = conversation.stream(fusion, question, **options)  # type: ignore[arg-type]
    assert isinstance(answer, Answer)
    return answer


def test_question_and_answer_are_noted() -> None:
    conversation = Conversation(system="Be brief.")
    assert ask(conversation, fusion_of(), "How many?").text == ANSWER
    ask(conversation, fusion_of(), "Sure?")
    assert roles(conversation) == [
        ("system", "Be brief."),
        ("user", "How many?"),
        ("assistant", ANSWER),
        ("user", "Sure?"),
        ("assistant", ANSWER),
    ]


def test_all_turns_are_in_the_prompt() -> None:
    conversation, fusion = Conversation("S"), fusion_of()
    ask(conversation, fusion, "Q")
    answer = ask(conversation, fusion, "R")
    assert answer.prompt_tokens["a"] == len("\n".join(["S", "Q", ANSWER, "R"]))


def test_progress_of_the_prompt_is_reported() -> None:
    shares: list[float] = []
    ask(Conversation(), fusion_of(), "How many?", on_progress=shares.append)
    assert shares
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_chosen_whole_answer_is_noted_not_the_fused_steps() -> None:
    texts = {"a": "It is 42.", "b": "It is 24."}
    sources = [
        ScriptedSource(name, BYTES, writes(text, BYTES, confidence=0.5))
        for name, text in texts.items()
    ]
    conversation = Conversation()
    answer = ask(conversation, Fusion(sources), "Q", settings=Settings(mode="cool+r"))
    assert roles(conversation)[-1] == ("assistant", answer.text)


def test_the_oldest_turns_are_left_out_of_the_prompt_but_kept() -> None:
    conversation, dropped = Conversation("S"), list[int]()
    conversation.messages += [Message("user", "q" * 50), Message("assistant", "a" * 50)] * 3
    n_last = len("\n".join(["S", "q" * 50, "a" * 50, "R"]))
    fusion = fusion_of(n_ctx=n_last + RESERVE_TOKENS)
    answer = ask(conversation, fusion, "R", on_dropped=dropped.append)
    assert answer.prompt_tokens["a"] == n_last
    assert dropped == [2]
    assert len(conversation.messages) == 1 + 6 + 2


def test_nothing_is_dropped_while_everything_fits() -> None:
    dropped: list[int] = []
    ask(Conversation("S"), fusion_of(), "Q", on_dropped=dropped.append)
    assert dropped == []


def test_the_last_question_may_use_the_reserve() -> None:
    conversation = Conversation()
    ask(conversation, fusion_of(), "Q")
    answer = ask(conversation, fusion_of(n_ctx=60), "R" * 55)
    assert answer.text == ANSWER[:5]
    assert answer.finish_reason == "length"


def test_a_short_limit_reserves_less() -> None:
    conversation, dropped = Conversation(), list[int]()
    ask(conversation, fusion_of(), "Q")
    n_prompt = len("\n".join(["Q", ANSWER, "R"]))
    short = Settings(max_tokens=4)
    fusion = fusion_of(n_ctx=n_prompt + 4)
    ask(conversation, fusion, "R", settings=short, on_dropped=dropped.append)
    assert dropped == []


def test_a_question_that_does_not_fit_alone_is_an_error_and_leaves_no_trace() -> None:
    conversation = Conversation("S")
    ask(conversation, fusion_of(), "Q")
    before = list(conversation.messages)
    with pytest.raises(ContextError):
        ask(conversation, fusion_of(n_ctx=30), "R" * 40)
    assert conversation.messages == before


class FailsLater(ScriptedSource):
    """Fails in its second commit."""

    def open_session(self) -> ScriptedSession:
        return FailingSession(self)


class FailingSession(ScriptedSession):
    n_commits = 0

    def commit(self, candidate: Candidate) -> None:
        self.n_commits += 1
        if self.n_commits == 2:
            raise CfLocalError("broken")
        super().commit(candidate)


def test_a_turn_that_fails_after_some_words_leaves_no_trace() -> None:
    conversation = Conversation("S")
    fusion = Fusion([FailsLater("a", BYTES, writes(ANSWER, BYTES))])
    with pytest.raises(CfLocalError, match="broken"):
        ask(conversation, fusion, "Q")
    assert roles(conversation) == [("system", "S")]
    assert ask(conversation, fusion, "Q").text == ANSWER


def test_a_cancelled_turn_keeps_what_came() -> None:
    conversation, fusion = Conversation(), fusion_of()
    for event in conversation.stream(fusion, "Q"):
        if isinstance(event, Step):
            fusion.cancel()
    assert roles(conversation) == [("user", "Q"), ("assistant", "It")]


def test_a_turn_whose_reader_left_keeps_what_was_shown() -> None:
    conversation, fusion = Conversation(), fusion_of()
    events = conversation.stream(fusion, "Q")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert roles(conversation) == [("user", "Q"), ("assistant", "It")]
    assert ask(conversation, fusion, "R").text == ANSWER


def test_ctrl_c_keeps_what_was_shown() -> None:
    conversation, fusion = Conversation(), fusion_of()
    events = conversation.stream(fusion, "Q")
    next(events)
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert roles(conversation) == [("user", "Q"), ("assistant", "It")]

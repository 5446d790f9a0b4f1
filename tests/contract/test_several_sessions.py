"""Several conversations on one loaded model, in turn: each goes on as if it were alone.

For the scripted source and for tiny random models of every kind of cache.
"""

from __future__ import annotations

import pytest
from contract import (
    GREEDY,
    LIMIT,
    LONG_PROMPT,
    MIXED,
    PROMPT,
    WHOLE_ONLY,
    Opener,
    assert_alike,
    candidate,
    prefilled,
)

from cf_local.errors import ClosedError, InputError
from cf_local.llama.context import PLAIN_PASS_TOKENS
from cf_local.method.session import prefill
from cf_local.types import RawText


def test_a_source_has_as_many_sessions_as_were_asked_for(
    open_source: Opener,
) -> None:
    source = open_source(n_sessions=3)
    assert source.source.sessions[0] is source
    assert len({id(session) for session in source.source.sessions}) == 3
    assert {session.source.info for session in source.source.sessions} == {source.source.info}
    assert len(open_source().source.sessions) == 1


def test_sessions_in_turn_are_like_sources_of_their_own(open_source: Opener) -> None:
    prompts = [PROMPT, RawText("The lazy dog"), RawText(PROMPT.text + " 24 dollars")]
    sessions = open_source(n_sessions=3).source.sessions
    fresh = [open_source() for _ in prompts]
    for session, one, prompt in zip(sessions, fresh, prompts, strict=True):
        prefilled(session, prompt)
        prefilled(one, prompt)
    for step in range(6):
        for index, (session, one) in enumerate(zip(sessions, fresh, strict=True)):
            session.draft(LIMIT)
            one.draft(LIMIT)
            winner = MIXED[(step + index) % len(MIXED)]
            session.score(MIXED)
            session.commit(winner)
            one.commit(winner)
    for session, one in zip(sessions, fresh, strict=True):
        assert session.n_response_tokens == one.n_response_tokens
        assert_alike(session, one)


def test_a_row_that_another_session_overwrites_is_kept(open_source: Opener) -> None:
    """Logits lie in one buffer: what was read of them late must still be the own ones."""
    one, other = open_source(n_sessions=2).source.sessions
    fresh = prefilled(open_source())
    prefilled(one)
    prefilled(other, LONG_PROMPT)
    for _ in range(4):
        draft = one.draft(LIMIT)
        other.draft(LIMIT)
        other.score(MIXED)
        other.commit(MIXED[0])
        (found,) = one.score([candidate(draft)])
        fresh.draft(LIMIT)
        (expected,) = fresh.score([candidate(draft)])
        assert found.n_terms == expected.n_terms
        assert found.nll_nats == pytest.approx(expected.nll_nats, abs=0.05 * found.n_terms)
        one.commit(candidate(draft))
        fresh.commit(candidate(draft))


def test_counters_are_those_of_a_seat(open_source: Opener) -> None:
    one, other = open_source(n_sessions=2).source.sessions
    prefilled(one)
    before = one.counters
    prefilled(other, LONG_PROMPT)
    other.draft(LIMIT)
    assert one.counters == before


def test_a_shared_prefix_is_evaluated_once(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    one, other = open_source(n_sessions=2).source.sessions
    n_system = prefill(one, LONG_PROMPT, sampling=GREEDY)
    prompt = RawText(LONG_PROMPT.text + " over the hill")
    before = other.counters.n_tokens
    n_tokens = prefill(other, prompt, sampling=GREEDY)
    n_read = other.counters.n_tokens - before
    if kind not in WHOLE_ONLY:
        assert n_read < n_tokens - n_system + PLAIN_PASS_TOKENS
    fresh = prefilled(open_source(), prompt)
    assert_alike(other, fresh)
    assert [s.nll_nats for s in other.score(MIXED)] == [s.nll_nats for s in fresh.score(MIXED)]
    assert_alike(one, prefilled(open_source(), LONG_PROMPT))


def test_a_part_of_a_text_is_shared_where_the_cache_can(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    one, other = open_source(n_sessions=2).source.sessions
    prefilled(one, RawText(LONG_PROMPT.text + " she sells 24 shells"))
    for _ in range(3):
        one.draft(LIMIT)
        one.commit(MIXED[0])
    prompt = RawText(LONG_PROMPT.text + " over the hill")
    n_tokens = prefill(other, prompt, sampling=GREEDY)
    if kind not in WHOLE_ONLY:
        assert other.counters.n_tokens < n_tokens / 10
    assert_alike(other, prefilled(open_source(), prompt))
    for _ in range(3):  # the first goes on undisturbed, whatever becomes of the other
        one.draft(LIMIT)
        one.commit(MIXED[1])
        prefilled(other, RawText("24 dollars"))
    fresh = prefilled(open_source(), RawText(LONG_PROMPT.text + " she sells 24 shells"))
    for winner in [MIXED[0]] * 3 + [MIXED[1]] * 3:
        fresh.commit(winner)
    assert_alike(one, fresh)


def test_prompts_read_at_the_same_time_share_what_any_of_them_has_read(
    open_source: Opener, kind: str
) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    sessions = open_source(n_sessions=3).source.sessions
    prompts = [RawText(LONG_PROMPT.text + f" {word}") for word in ("fox", "dog", "hill")]
    parts = [
        session.prefill(p, sampling=GREEDY) for session, p in zip(sessions, prompts, strict=True)
    ]
    while parts:
        parts = [part for part in parts if next(part, None) is not None]
    n_read = sum(session.counters.n_tokens for session in sessions)
    alone = open_source()
    n_alone = prefill(alone, prompts[0], sampling=GREEDY)
    assert n_read < (1.2 * n_alone if kind not in WHOLE_ONLY else 3.2 * n_alone)
    for session, prompt in zip(sessions, prompts, strict=True):
        assert_alike(session, prefilled(open_source(), prompt))


def test_reading_that_is_given_up_leaves_sessions_that_can_be_used(open_source: Opener) -> None:
    one, other = open_source(n_sessions=2).source.sessions
    prefilled(other)
    parts = one.prefill(LONG_PROMPT, sampling=GREEDY)
    next(parts)
    parts.close()
    assert_alike(prefilled(one, LONG_PROMPT), prefilled(open_source(), LONG_PROMPT))
    assert_alike(other, prefilled(open_source()))


def test_a_session_knows_the_conversation_that_comes_back(open_source: Opener) -> None:
    one, other = open_source(n_sessions=2).source.sessions
    assert one.n_resident(PROMPT) == 0
    n_tokens = prefill(one, PROMPT, sampling=GREEDY)
    prefilled(other, RawText("24 dollars"))
    longer = RawText(PROMPT.text + " shells over the hill")
    assert 0 < n_tokens <= one.n_resident(longer) + 1
    assert other.n_resident(longer) == 0
    assert one.n_resident(RawText("The quick brown fox runs")) == 0


def test_closing_the_first_closes_all(open_source: Opener) -> None:
    source = open_source(n_sessions=2)
    other = prefilled(source.source.sessions[1])
    source.source.close()
    source.source.close()
    with pytest.raises(ClosedError):
        other.draft(LIMIT)
    with pytest.raises(ClosedError):
        prefilled(other)


def test_at_least_one_seat(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it has a session whatever is asked for")
    with pytest.raises(InputError, match="0 conversations at once"):
        open_source(n_sessions=0)


def test_more_sessions_than_llama_cpp_has_sequences_for(open_source: Opener) -> None:
    sessions = open_source(
        n_sessions=40
    ).source.sessions  # of 9 sequences each; llama.cpp has 256 in a context
    prefilled(sessions[0], RawText("24 dollars"))
    assert_alike(prefilled(sessions[39]), prefilled(open_source()))

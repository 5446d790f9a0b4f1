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
    begun,
    candidate,
)

from cf_local.errors import ClosedError, InputError
from cf_local.llama.context import PLAIN_PASS_TOKENS
from cf_local.types import RawText


def test_a_source_has_as_many_seats_as_were_asked_for_and_is_the_first(open_source: Opener) -> None:
    source = open_source(n_seats=3)
    assert source.seats[0] is source
    assert len({id(seat) for seat in source.seats}) == 3
    assert {seat.info for seat in source.seats} == {source.info}
    assert len(open_source().seats) == 1


def test_seats_in_turn_are_like_sources_of_their_own(open_source: Opener) -> None:
    prompts = [PROMPT, RawText("The lazy dog"), RawText(PROMPT.text + " 24 dollars")]
    seats = open_source(n_seats=3).seats
    fresh = [open_source() for _ in prompts]
    for seat, one, prompt in zip(seats, fresh, prompts, strict=True):
        begun(seat, prompt)
        begun(one, prompt)
    for step in range(6):
        for index, (seat, one) in enumerate(zip(seats, fresh, strict=True)):
            seat.draft(LIMIT)
            one.draft(LIMIT)
            winner = MIXED[(step + index) % len(MIXED)]
            seat.score(MIXED)
            seat.commit(winner)
            one.commit(winner)
    for seat, one in zip(seats, fresh, strict=True):
        assert seat.n_response_tokens == one.n_response_tokens
        assert_alike(seat, one)


def test_a_row_that_another_seat_overwrites_is_kept(open_source: Opener) -> None:
    """Logits lie in one buffer: what was read of them late must still be the own ones."""
    one, other = open_source(n_seats=2).seats
    fresh = begun(open_source())
    begun(one)
    begun(other, LONG_PROMPT)
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
    one, other = open_source(n_seats=2).seats
    begun(one)
    before = one.counters
    begun(other, LONG_PROMPT)
    other.draft(LIMIT)
    assert one.counters == before


def test_a_shared_prefix_is_evaluated_once(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    one, other = open_source(n_seats=2).seats
    n_system = one.begin(LONG_PROMPT, sampling=GREEDY)
    prompt = RawText(LONG_PROMPT.text + " over the hill")
    before = other.counters.n_tokens
    n_tokens = other.begin(prompt, sampling=GREEDY)
    n_read = other.counters.n_tokens - before
    if kind not in WHOLE_ONLY:
        assert n_read < n_tokens - n_system + PLAIN_PASS_TOKENS
    fresh = begun(open_source(), prompt)
    assert_alike(other, fresh)
    assert [s.nll_nats for s in other.score(MIXED)] == [s.nll_nats for s in fresh.score(MIXED)]
    assert_alike(one, begun(open_source(), LONG_PROMPT))


def test_a_part_of_a_text_is_shared_where_the_cache_can(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    one, other = open_source(n_seats=2).seats
    begun(one, RawText(LONG_PROMPT.text + " she sells 24 shells"))
    for _ in range(3):
        one.draft(LIMIT)
        one.commit(MIXED[0])
    prompt = RawText(LONG_PROMPT.text + " over the hill")
    n_tokens = other.begin(prompt, sampling=GREEDY)
    if kind not in WHOLE_ONLY:
        assert other.counters.n_tokens < n_tokens / 10
    assert_alike(other, begun(open_source(), prompt))
    for _ in range(3):  # the first goes on undisturbed, whatever becomes of the other
        one.draft(LIMIT)
        one.commit(MIXED[1])
        begun(other, RawText("24 dollars"))
    fresh = begun(open_source(), RawText(LONG_PROMPT.text + " she sells 24 shells"))
    for winner in [MIXED[0]] * 3 + [MIXED[1]] * 3:
        fresh.commit(winner)
    assert_alike(one, fresh)


def test_prompts_read_at_the_same_time_share_what_any_of_them_has_read(
    open_source: Opener, kind: str
) -> None:
    if kind == "scripted":
        pytest.skip("it reads nothing")
    seats = open_source(n_seats=3).seats
    prompts = [RawText(LONG_PROMPT.text + f" {word}") for word in ("fox", "dog", "hill")]
    parts = [seat.beginning(p, sampling=GREEDY) for seat, p in zip(seats, prompts, strict=True)]
    while parts:
        parts = [part for part in parts if next(part, None) is not None]
    n_read = sum(seat.counters.n_tokens for seat in seats)
    alone = open_source()
    n_alone = alone.begin(prompts[0], sampling=GREEDY)
    assert n_read < (1.2 * n_alone if kind not in WHOLE_ONLY else 3.2 * n_alone)
    for seat, prompt in zip(seats, prompts, strict=True):
        assert_alike(seat, begun(open_source(), prompt))


def test_reading_that_is_given_up_leaves_seats_that_can_be_used(open_source: Opener) -> None:
    one, other = open_source(n_seats=2).seats
    begun(other)
    parts = one.beginning(LONG_PROMPT, sampling=GREEDY)
    next(parts)
    parts.close()
    assert_alike(begun(one, LONG_PROMPT), begun(open_source(), LONG_PROMPT))
    assert_alike(other, begun(open_source()))


def test_a_seat_knows_the_conversation_that_comes_back(open_source: Opener) -> None:
    one, other = open_source(n_seats=2).seats
    assert one.continues(PROMPT) == 0
    n_tokens = one.begin(PROMPT, sampling=GREEDY)
    begun(other, RawText("24 dollars"))
    longer = RawText(PROMPT.text + " shells over the hill")
    assert 0 < n_tokens <= one.continues(longer) + 1
    assert other.continues(longer) == 0
    assert one.continues(RawText("The quick brown fox runs")) == 0


def test_closing_the_first_closes_all(open_source: Opener) -> None:
    source = open_source(n_seats=2)
    other = begun(source.seats[1])
    source.close()
    source.close()
    with pytest.raises(ClosedError):
        other.draft(LIMIT)
    with pytest.raises(ClosedError):
        begun(other)


def test_at_least_one_seat(open_source: Opener, kind: str) -> None:
    if kind == "scripted":
        pytest.skip("it has a seat whatever is asked for")
    with pytest.raises(InputError, match="0 conversations at once"):
        open_source(n_seats=0)


def test_more_seats_than_llama_cpp_has_sequences_for(open_source: Opener) -> None:
    seats = open_source(n_seats=40).seats  # of 9 sequences each; llama.cpp has 256 in a context
    begun(seats[0], RawText("24 dollars"))
    assert_alike(begun(seats[39]), begun(open_source()))

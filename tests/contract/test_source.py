"""What the engine may expect of any Session, checked on the scripted and on real ones alike.

The real ones run tiny random models of every kind of cache there is: full attention, sliding
window, recurrent, and hybrids of these.
"""

from __future__ import annotations

import math
import random
import re

import pytest
from contract import (
    GREEDY,
    LIMIT,
    LONG_PROMPT,
    MIXED,
    NLL_NOISE,
    PROMPT,
    TWINS,
    UNCUTTABLE,
    WORDS,
    Opener,
    ahead,
    assert_alike,
    assert_same,
    candidate,
    draft_tokens,
    is_in_actor,
    prefilled,
    write,
)

from cf_local.errors import Cancelled, CfLocalError, ClosedError, ContextError, InputError
from cf_local.llama.context import PLAIN_PASS_TOKENS
from cf_local.method.boundary import is_word_boundary
from cf_local.method.session import Legible, Session, prefill
from cf_local.settings import Sampling
from cf_local.testing import END
from cf_local.types import Candidate, Chat, Draft, Message, RawText, Score

# --- Drafts ---------------------------------------------------------------------------------


def test_a_draft_ends_where_its_own_word_ends(source: Session) -> None:
    for _ in range(12):
        draft = source.draft(LIMIT)
        assert draft.ends or is_word_boundary(draft.text, draft.lookahead)
        starts = [end for end in draft.token_ends[:-1] if end > 0]
        for end, next_end in zip(starts, draft.token_ends[1:], strict=False):
            assert not is_word_boundary(draft.text[:end], draft.text[end:next_end])
        source.commit(candidate(draft))


def test_the_tokens_of_a_text_are_counted_without_a_pass(source: Session) -> None:
    prefill(source, PROMPT, sampling=GREEDY)
    n_passes = source.counters.n_passes
    assert source.source.n_tokens("") == 0
    assert 1 <= source.source.n_tokens(" the fox") <= len(" the fox")
    assert source.source.n_tokens(" the fox" * 50) > source.source.n_tokens(" the fox")
    assert source.counters.n_passes == n_passes


def test_the_tokens_of_a_prompt_are_counted_without_a_pass(source: Session) -> None:
    n_passes = source.counters.n_passes
    n_tokens = source.source.n_prompt_tokens(PROMPT)
    assert source.counters.n_passes == n_passes
    assert prefill(source, PROMPT, sampling=GREEDY) == n_tokens > 5


def test_token_ends_of_a_draft_grow_to_its_length(source: Session) -> None:
    draft = source.extend(LIMIT) if source.draft(LIMIT) else None
    assert draft is not None
    assert list(draft.token_ends) == sorted(draft.token_ends)
    assert draft.token_ends[-1] == len(draft.text)


def test_extend_goes_on_where_the_draft_stood(source: Session) -> None:
    draft = source.draft(LIMIT)
    for _ in range(8):
        longer = source.extend(LIMIT)
        assert longer.text.startswith(draft.text + draft.lookahead)
        assert longer.token_ends[: len(draft.token_ends)] == draft.token_ends
        draft = longer


def test_extending_writes_what_committing_each_word_writes(open_source: Opener) -> None:
    whole, by_word = prefilled(open_source()), prefilled(open_source())
    draft = whole.draft(LIMIT)
    while len(draft.text) < 60 and not draft.ends:
        draft = whole.extend(200)
    assert write(by_word, len(draft.text)) == draft.text


def test_a_new_draft_drops_the_former_one(source: Session) -> None:
    first = source.draft(LIMIT)
    source.extend(LIMIT)
    assert source.draft(LIMIT) == first


def test_a_limit_stops_a_draft_anywhere_and_a_full_one_stays(source: Session) -> None:
    source.draft(1)
    for limit in (1, 2, 3):
        draft = source.extend(limit)
        assert len(draft.token_ends) == limit
        assert source.extend(limit) == draft


def test_trim_cuts_after_a_token_and_drafting_goes_on_as_before(source: Session) -> None:
    draft = draft_tokens(source, 6)
    cut = draft.token_ends[2]
    trimmed = source.trim(cut)
    assert trimmed.text == draft.text[:cut]
    assert trimmed.token_ends == draft.token_ends[:3]
    assert not trimmed.ends
    assert trimmed.lookahead == draft.text[cut : draft.token_ends[3]]
    (score,) = source.score([candidate(trimmed)])
    while len((again := source.extend(6)).token_ends) < 6:
        pass
    assert again == draft
    fresh = draft_tokens(source, 3)
    assert fresh == trimmed
    assert_same([score], source.score([candidate(fresh)]))


def test_trim_at_the_end_changes_nothing(source: Session) -> None:
    draft = source.draft(LIMIT)
    before = source.counters.n_passes
    assert source.trim(len(draft.text)) == draft
    assert source.counters.n_passes == before


def test_an_ending_has_no_lookahead_and_cannot_be_extended(open_source: Opener, kind: str) -> None:
    eager = {"script": lambda _text: {END: 0.9}} if kind == "scripted" else {"eog_bias": 40.0}
    source = prefilled(open_source(**eager))
    draft = source.draft(LIMIT)
    assert draft == Draft(b"", True, b"", ())
    assert source.extend(LIMIT) == draft
    (score,) = source.score([candidate(draft)])
    assert score.n_terms == 1
    assert score.nll_nats < 0.5
    source.commit(candidate(draft))
    assert source.n_response_tokens == 0


# --- Token ends -----------------------------------------------------------------------------


def test_token_ends_reach_the_end_of_the_text(source: Session) -> None:
    for text in (b" the fox", b"ning 24", "é東京👍🏽".encode(), b"\n\n  x", b""):
        ends = source.token_ends(text)
        assert max(ends, default=0) == len(text)
        assert 0 not in ends


def test_token_ends_cost_no_pass(source: Session) -> None:
    before = source.counters
    source.token_ends(b" the quick brown fox")
    assert source.counters == before


def test_token_ends_are_where_scored_text_is_cut(source: Session) -> None:
    text = b" running shells"
    (score,) = source.score([Candidate(text, False)])
    assert score.n_terms == len(source.token_ends(text))


# --- Scores ---------------------------------------------------------------------------------


def test_the_own_draft_is_scored_with_its_own_tokens_and_without_a_pass(source: Session) -> None:
    draft = source.draft(LIMIT)
    draft = source.extend(LIMIT)
    before = source.counters
    (score,) = source.score([candidate(draft)])
    assert source.counters == before
    assert score.n_terms == len(draft.token_ends) + draft.ends
    assert 0 < score.nll_nats < 10 * score.n_terms


def test_greedy_tokens_are_the_most_likely_ones(source: Session) -> None:
    draft = source.draft(1)
    others = [
        Candidate(w.encode(), False) for w in WORDS if len(source.token_ends(w.encode())) == 1
    ]
    own, *rest = source.score([candidate(draft), *others])
    assert all(own.nll_nats <= other.nll_nats + NLL_NOISE for other in rest)


def test_scores_add_up_where_the_tokens_split(source: Session) -> None:
    first, second = b" the fox", b" over the hill"
    assert len(first) in source.token_ends(first + second)
    whole, head = source.score([Candidate(first + second, False), Candidate(first, False)])
    source.commit(Candidate(first, False))
    (tail,) = source.score([Candidate(second, False)])
    assert_same([whole], [Score(head.nll_nats + tail.nll_nats, head.n_terms + tail.n_terms)])


def test_an_ending_adds_one_term(source: Session) -> None:
    text = b" the fox"
    going_on, ending = source.score([Candidate(text, False), Candidate(text, True)])
    assert ending.n_terms == going_on.n_terms + 1
    assert ending.nll_nats > going_on.nll_nats
    source.commit(Candidate(text, False))
    (end,) = source.score([Candidate(b"", True)])
    assert_same([ending], [Score(going_on.nll_nats + end.nll_nats, going_on.n_terms + 1)])


def test_scoring_together_equals_scoring_one_at_a_time(source: Session) -> None:
    together = source.score(MIXED)
    alone = []
    for one in MIXED:
        source.rollback()
        alone += source.score([one])
    assert_same(together, alone)


def test_scores_do_not_depend_on_the_draft(source: Session) -> None:
    before = source.score(MIXED)
    source.rollback()
    source.draft(LIMIT)
    source.extend(LIMIT)
    assert_same(source.score(MIXED), before)


def test_more_candidates_than_forks(open_source: Opener) -> None:
    many = [Candidate(word.encode() * n, False) for word in WORDS for n in (1, 2)]
    few_forks, enough = prefilled(open_source(n_forks=2)), prefilled(open_source(n_forks=len(many)))
    draft = few_forks.draft(LIMIT)
    own = Candidate(draft.text, draft.ends)
    scores = few_forks.score([own, *many])
    enough.draft(LIMIT)
    assert_same(scores, enough.score([own, *many]))
    few_forks.commit(own)  # its fork was given to others
    enough.commit(own)
    assert_alike(few_forks, enough)


def test_an_empty_ending_of_a_response_that_will_be_revisited(open_source: Opener) -> None:
    source, fresh = open_source(), prefilled(open_source())
    prefill(source, PROMPT, sampling=GREEDY, looks_ahead=True, revisits=True)
    if source.lookahead is not None:
        ahead(source).prefetch([MIXED[0].text + b" hill over the hill"])
    for known in (source, fresh):
        known.score([MIXED[0]])
        known.commit(MIXED[0])
        known.rollback()
        known.score([Candidate(b"", True)])
        known.commit(Candidate(b"", True))
    assert_alike(source, fresh)


def test_a_word_that_was_read_within_a_longer_candidate_can_be_gone_on_from(
    open_source: Opener,
) -> None:
    source, fresh = open_source(), prefilled(open_source())
    prefill(source, PROMPT, sampling=GREEDY, looks_ahead=True)
    the, the_fox = Candidate(b" the", False), Candidate(b" the fox", False)
    source.score([the_fox, the])
    source.commit(the)
    if source.lookahead is not None:
        ahead(source).prefetch([b" fox"])  # which is there already
        ahead(source).known()
    fresh.commit(the)
    assert_alike(source, fresh)


def test_more_whole_answers_than_forks_and_cells(open_source: Opener) -> None:
    source, other = prefilled(open_source(n_ctx=256, n_forks=1)), prefilled(open_source(n_ctx=256))
    texts = (b"".join(w.encode() for w in random.Random(i).choices(WORDS, k=30)) for i in range(6))
    answers = [Candidate(text, True) for text in texts]
    source.draft(LIMIT)
    one_by_one = [other.score([answer])[0] for answer in answers]
    assert_same(source.score(answers), one_by_one)
    source.commit(answers[1])
    assert source.n_response_tokens == len(other.token_ends(answers[1].text))


def test_a_likelihood_is_known_though_others_need_the_fork_before_it(open_source: Opener) -> None:
    source, other = open_source(n_forks=1), open_source()
    for one in (source, other):
        prefill(one, PROMPT, sampling=GREEDY, looks_ahead=True)
    long = [f"{word} over the hill".encode() for word in WORDS]
    for word in WORDS[:6]:
        if source.lookahead is not None:  # all forks there are; the first can go
            ahead(source).prefetch([word.encode(), *long[6:8]])
        candidates = [Candidate(word.encode() + end, False) for end in (b" ", b".")]
        candidates += [Candidate(text, False) for text in long[8:]]
        assert_same(source.score(candidates), other.score(candidates))
        source.commit(candidates[0])
        other.commit(candidates[0])


def test_a_long_candidate_is_scored_in_several_passes(source: Session) -> None:
    text = b" the fox, over 24 hill dollars." * 14
    (whole,) = source.score([Candidate(text, False)])
    assert whole.n_terms > 100
    parts, nll_nats = [text[i : i + 31] for i in range(0, len(text), 31)], 0.0
    for part in parts:
        nll_nats += source.score([Candidate(part, False)])[0].nll_nats
        source.commit(Candidate(part, False))
    assert_same([whole], [Score(nll_nats, whole.n_terms)])


def test_text_that_is_no_utf8_is_scored_and_committed(source: Session) -> None:
    broken = Candidate(b"\xff fox\xe6\x9d", False)
    assert source.score([broken])[0].n_terms >= 3
    source.commit(broken)
    assert source.draft(LIMIT).token_ends


# --- Passes ---------------------------------------------------------------------------------


def test_a_draft_costs_one_pass_a_token(source: Session) -> None:
    for limit in (LIMIT, 3, 1):
        source.rollback()
        before = source.counters
        draft = source.draft(limit)
        draft = source.extend(limit)
        n = len(draft.token_ends)
        assert source.counters.n_passes - before.n_passes == n
        assert source.counters.n_tokens - before.n_tokens == n


def test_scoring_others_costs_one_pass_and_committing_the_winner_none(source: Session) -> None:
    for winner in MIXED:
        draft = source.draft(LIMIT)
        before = source.counters
        source.score([candidate(draft), *MIXED])
        assert source.counters.n_passes == before.n_passes + 1
        n_read = sum(len(source.token_ends(c.text)) for c in MIXED)
        assert source.counters.n_tokens - before.n_tokens <= n_read  # common beginnings are shared
        source.score(MIXED)  # known by now
        source.commit(winner)
        assert source.counters.n_passes == before.n_passes + 1


def test_committing_an_unknown_candidate_costs_one_pass(source: Session) -> None:
    before = source.counters
    source.commit(MIXED[0])
    assert source.counters.n_passes == before.n_passes + 1


def test_a_new_draft_after_an_own_one_costs_no_token_twice(source: Session) -> None:
    before, n_tokens = source.counters, 0
    for _ in range(5):
        draft = source.draft(LIMIT)
        n_tokens += len(draft.token_ends)
        source.commit(candidate(draft))
    assert source.counters.n_passes - before.n_passes == n_tokens


# --- Commits --------------------------------------------------------------------------------


def test_response_tokens_are_counted_and_leave_less_room(source: Session) -> None:
    room = source.n_free
    assert source.n_response_tokens == 0
    draft = source.draft(LIMIT)
    source.commit(candidate(draft))
    source.commit(MIXED[0])
    assert source.n_response_tokens >= len(draft.token_ends) + 1
    assert source.n_free == room - source.n_response_tokens


def test_own_scored_and_unknown_candidates_lead_to_the_same_state(open_source: Opener) -> None:
    scored, unknown = prefilled(open_source()), prefilled(open_source())
    for one in MIXED:
        scored.draft(LIMIT)
        scored.score(MIXED)
        scored.commit(one)
        unknown.commit(one)
    assert_alike(scored, unknown)


def test_after_a_busy_answer_a_source_is_like_one_that_read_the_text_at_once(
    open_source: Opener, kind: str
) -> None:
    if kind == "scripted":
        pytest.skip("its script sees the response, not the prompt")
    source, fresh = open_source(), open_source()
    n_prompt = prefill(source, PROMPT, sampling=GREEDY)
    text, draw = PROMPT.text.encode(), random.Random(5)
    for _ in range(40):
        draft = source.draft(LIMIT)
        if draw.random() < 0.5:
            draft = source.extend(LIMIT)
        others = [Candidate(w.encode(), False) for w in draw.sample(WORDS, 3)]
        source.score([candidate(draft), *others])
        if draw.random() < 0.3:
            source.rollback()
        # Text that is cut the same way at once: a whole word in a vocabulary without twin tokens.
        plain = re.fullmatch(rb" [a-z]+", draft.text) and not draft.ends and kind not in TWINS
        as_encoded = source.token_ends(draft.text) == set(draft.token_ends)
        chosen = candidate(draft) if plain and as_encoded else others[0]
        source.commit(chosen)
        text += chosen.text
    n_tokens = prefill(fresh, RawText(text.decode()), sampling=GREEDY)
    assert n_tokens == n_prompt + source.n_response_tokens
    assert_alike(source, fresh)


# --- Going back -----------------------------------------------------------------------------


def test_rollback_at_any_time_keeps_the_response(open_source: Opener) -> None:
    source, fresh = prefilled(open_source()), prefilled(open_source())
    write(source, 20)
    write(fresh, 20)
    source.rollback()
    for leave in (
        lambda: source.draft(LIMIT),
        lambda: (source.draft(LIMIT), source.extend(LIMIT)),
        lambda: (source.draft(LIMIT), source.score(MIXED)),
        lambda: source.score(MIXED),
    ):
        leave()
        source.rollback()
        source.rollback()
    assert_alike(source, fresh)


def test_rollback_forgets_draft_and_scored_candidates(source: Session) -> None:
    source.draft(LIMIT)
    source.score(MIXED)
    source.rollback()
    with pytest.raises(CfLocalError):
        source.extend(LIMIT)
    before = source.counters.n_passes
    source.score(MIXED)
    assert source.counters.n_passes == before + 1


def test_restart_returns_to_the_end_of_the_prompt_without_a_pass(open_source: Opener) -> None:
    source = prefilled(open_source())
    write(source, 200)
    source.draft(LIMIT)
    before, room = source.counters, source.n_free + source.n_response_tokens
    source.restart()
    assert source.counters == before
    assert (source.n_response_tokens, source.n_free) == (0, room)
    assert_alike(source, prefilled(open_source()))


def test_passes_can_be_timed_between_answers_and_change_nothing(
    open_source: Opener, kind: str
) -> None:
    if kind == "scripted":
        pytest.skip("it has no passes")
    source, fresh = prefilled(open_source()), prefilled(open_source())
    for each in (source, fresh):
        write(each, 100)
        each.rollback()
    for n_tokens in (1, 8):
        assert source.time_pass(n_tokens) > 0
    assert_alike(source, fresh)
    assert [s.nll_nats for s in source.score(MIXED)] == [s.nll_nats for s in fresh.score(MIXED)]


def test_the_same_prompt_again_is_not_evaluated_again(open_source: Opener, kind: str) -> None:
    source, fresh = prefilled(open_source()), prefilled(open_source())
    write(source, 200)
    before = source.counters
    n_prompt = prefill(source, PROMPT, sampling=GREEDY)
    if kind != "scripted":
        assert source.counters == before
    assert source.n_response_tokens == 0
    assert n_prompt == prefill(open_source(), PROMPT, sampling=GREEDY)
    assert_alike(source, fresh)


@pytest.mark.parametrize("shared", ["more", "less", "other", "swapped", "nothing"])
def test_another_prompt_reads_only_what_is_new(open_source: Opener, kind: str, shared: str) -> None:
    source, fresh = prefilled(open_source(), LONG_PROMPT), open_source()
    start, words = LONG_PROMPT.text, LONG_PROMPT.text.split()
    n_start = {"more": len(words), "nothing": 0}.get(shared, len(words) - 40)
    next_prompt = {
        "more": RawText(start + " shells over the hill"),
        "less": RawText(" ".join(words[:n_start])),
        "other": RawText(" ".join(words[:n_start]) + " hill and the lazy dog"),
        "swapped": RawText(  # as long
            " ".join([*words[:n_start], *words[n_start + 1 :], *words[n_start : n_start + 1]])
        ),
        "nothing": RawText("24 dollars"),
    }[shared]
    before = source.counters.n_tokens
    n_read = prefill(source, next_prompt, sampling=GREEDY)
    assert n_read == prefill(fresh, next_prompt, sampling=GREEDY)
    n_new = source.counters.n_tokens - before
    if kind != "scripted" and kind not in UNCUTTABLE:
        # Whole blocks are kept, so that the numbers are those of a prompt that is read from its
        # start: the last digits depend on which tokens are computed together.
        assert n_new < n_read - n_start + PLAIN_PASS_TOKENS
    assert n_new <= n_read
    assert_alike(source, fresh)
    assert [s.nll_nats for s in source.score(MIXED)] == [s.nll_nats for s in fresh.score(MIXED)]


def test_a_conversation_that_grows_is_read_once(open_source: Opener, kind: str) -> None:
    source, text, n_dropped = prefilled(open_source()), PROMPT.text, 0
    for _ in range(4):
        n_dropped += len(source.draft(LIMIT).token_ends)
        source.commit(MIXED[0])
        text += MIXED[0].text.decode() + ", running over 24 hill"
        prefill(source, RawText(text), sampling=GREEDY)
    fresh = open_source()
    n_tokens = prefill(fresh, RawText(text), sampling=GREEDY)
    if kind != "scripted":
        assert source.counters.n_tokens == n_tokens + n_dropped
    assert_alike(source, fresh)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_prompts_and_answers_ends_like_a_fresh_start(
    open_source: Opener, seed: int
) -> None:
    """A cache that forgot what a sliding window had hidden would tell here."""
    source, draw = open_source(), random.Random(seed)
    text = " ".join(draw.choices([w.strip() for w in WORDS], k=120))
    for _ in range(8):
        prompt = RawText(
            text[: draw.randrange(10, len(text))] + draw.choice(["", " hill over", "."])
        )
        prefilled(source, prompt)
        for _ in range(draw.randrange(12)):
            source.draft(LIMIT)
            source.commit(draw.choice(MIXED))
        if draw.random() < 0.3:
            source.restart()
        fresh = prefilled(open_source(), prompt)
        prefilled(source, prompt)
        assert_alike(source, fresh)
        source.rollback()


# --- Errors ---------------------------------------------------------------------------------


def test_work_before_a_prompt_is_refused(open_source: Opener) -> None:
    source = open_source()
    for work in (lambda: source.draft(LIMIT), lambda: source.score(MIXED), source.restart):
        with pytest.raises(CfLocalError):
            work()
    with pytest.raises(CfLocalError):
        source.commit(MIXED[0])


def test_extend_and_trim_need_a_draft(source: Session) -> None:
    with pytest.raises(CfLocalError):
        source.extend(LIMIT)
    with pytest.raises(CfLocalError):
        source.trim(1)


def test_a_prompt_that_leaves_too_little_room_is_refused_and_changes_nothing(
    open_source: Opener,
) -> None:
    source, fresh = prefilled(open_source(n_ctx=64)), prefilled(open_source(n_ctx=64))
    n_prompt = prefill(fresh, PROMPT, sampling=GREEDY)
    write(source, 10)
    write(fresh, 10)
    with pytest.raises(ContextError):
        prefill(source, PROMPT, sampling=GREEDY, reserve_tokens=65 - n_prompt)
    with pytest.raises(ContextError):
        prefill(source, RawText("the dog " * 80), sampling=GREEDY)
    assert_alike(source, fresh)
    assert prefill(source, PROMPT, sampling=GREEDY, reserve_tokens=64 - n_prompt) == n_prompt


def test_an_empty_prompt_is_refused(open_source: Opener) -> None:
    source = open_source()
    with pytest.raises(InputError):
        prefill(source, RawText(""), sampling=GREEDY)
    assert prefilled(source).draft(LIMIT).token_ends


def test_text_that_does_not_fit_the_context_cannot_win_and_leaves_the_source_usable(
    open_source: Opener, kind: str
) -> None:
    if kind == "mamba":
        pytest.skip("its state has one size however much it read")
    source, fresh = prefilled(open_source(n_ctx=64)), prefilled(open_source(n_ctx=64))
    endless = Candidate(b" the fox" * 2000, False)
    unfit, fit = source.score([endless, Candidate(b" the", False)])
    assert unfit.nll_nats == math.inf
    assert math.isfinite(fit.nll_nats)
    with pytest.raises(ContextError):
        source.commit(endless)
    source.rollback()
    assert_alike(source, fresh)


def test_the_whole_context_can_be_written(open_source: Opener) -> None:
    source = prefilled(open_source(n_ctx=48))
    while source.n_free > 0:
        draft = source.draft(min(LIMIT, source.n_free))
        source.score([candidate(draft), *MIXED])
        source.commit(Candidate(draft.text, False))
        if draft.ends and not draft.text:
            source.commit(Candidate(b" the", False))
    assert source.n_free <= 0


def test_everything_but_close_is_refused_after_close(source: Session) -> None:
    source.draft(LIMIT)
    source.source.close()
    source.source.close()
    source.rollback()
    for work in (
        lambda: prefill(source, PROMPT, sampling=GREEDY),
        lambda: source.draft(LIMIT),
        lambda: source.extend(LIMIT),
        lambda: source.trim(1),
        lambda: source.token_ends(b" never seen before"),
        lambda: source.score(MIXED),
        lambda: source.commit(MIXED[0]),
        source.restart,
    ):
        with pytest.raises(ClosedError):
            work()
    assert source.counters.n_passes > 0


# --- Cancelling -----------------------------------------------------------------------------


class Switch:
    """Turns true once it was asked ``n_more`` times."""

    def __init__(self) -> None:
        self.n_more: int | None = None

    def __call__(self) -> bool:
        if self.n_more is None:
            return False
        self.n_more -= 1
        return self.n_more < 0


@pytest.mark.parametrize("n_more", [0, 1, 5])
def test_a_cancelled_draft_can_be_rolled_back(open_source: Opener, kind: str, n_more: int) -> None:
    if n_more and is_in_actor(kind):
        pytest.skip("asks once a message")
    source, fresh, switch = open_source(), prefilled(open_source()), Switch()
    prefill(source, PROMPT, sampling=GREEDY, is_cancelled=switch)
    switch.n_more = n_more
    with pytest.raises(Cancelled):
        draft_tokens(source, n_more + 1)
    switch.n_more = None
    source.rollback()
    assert_alike(source, fresh)


@pytest.mark.parametrize("work", ["score", "commit"])
def test_cancelled_scoring_and_committing_keep_the_response(open_source: Opener, work: str) -> None:
    source, fresh, switch = open_source(), prefilled(open_source()), Switch()
    prefill(source, PROMPT, sampling=GREEDY, is_cancelled=switch)
    switch.n_more = 0
    with pytest.raises(Cancelled):
        _ = source.score(MIXED) if work == "score" else source.commit(MIXED[0])
    switch.n_more = None
    source.rollback()
    assert source.n_response_tokens == 0
    assert_alike(source, fresh)


@pytest.mark.parametrize("n_more", [0, 1, 40])
def test_a_cancelled_prompt_can_be_started_again(
    open_source: Opener, kind: str, n_more: int
) -> None:
    if kind == "scripted" and n_more:
        pytest.skip("reads a prompt in one pass and asks once")
    if n_more > 1 and is_in_actor(kind):
        pytest.skip("asks once a message")
    source, switch = prefilled(open_source()), Switch()
    switch.n_more = n_more
    with pytest.raises(Cancelled):
        prefill(source, LONG_PROMPT, sampling=GREEDY, is_cancelled=switch)
    assert_alike(prefilled(source, LONG_PROMPT), prefilled(open_source(), LONG_PROMPT))


@pytest.mark.parametrize("n_asked", [1, 2, 20])
def test_ctrl_c_while_a_prompt_is_read_is_not_lost(
    open_source: Opener, kind: str, n_asked: int
) -> None:
    if kind == "scripted" and n_asked > 1:
        pytest.skip("reads a prompt in one pass and asks once")
    if n_asked > 2 and is_in_actor(kind):
        pytest.skip("asks once a message")
    questions = iter(range(1, n_asked))

    def interrupted() -> bool:
        if next(questions, None) is None:
            raise KeyboardInterrupt
        return False

    source = prefilled(open_source())
    with pytest.raises(KeyboardInterrupt):
        prefill(source, LONG_PROMPT, sampling=GREEDY, is_cancelled=interrupted)
    assert_alike(prefilled(source), prefilled(open_source()))


def test_progress_of_a_prompt_grows_to_one(open_source: Opener) -> None:
    shares: list[float] = []
    source = open_source()
    prefill(source, LONG_PROMPT, sampling=GREEDY, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# --- Sampling -------------------------------------------------------------------------------

WARM = Sampling(temperature=1.5, seed=7)


def sampled(open_source: Opener, sampling: Sampling) -> bytes:
    return write(prefilled(open_source(), sampling=sampling), 60)


def test_the_same_seed_gives_the_same_text(open_source: Opener) -> None:
    assert sampled(open_source, WARM) == sampled(open_source, WARM)


def test_other_seeds_give_other_texts(open_source: Opener) -> None:
    texts = {sampled(open_source, Sampling(1.5, seed=seed)) for seed in range(4)}
    assert len(texts) > 1


def test_a_new_prompt_starts_the_draw_anew(open_source: Opener) -> None:
    source = prefilled(open_source(), sampling=WARM)
    first = write(source, 60)
    assert write(prefilled(source, sampling=WARM), 60) == first


def test_temperature_zero_and_the_narrowest_draws_are_greedy(
    open_source: Opener, kind: str
) -> None:
    greedy = sampled(open_source, GREEDY)
    assert sampled(open_source, Sampling(temperature=0.0, seed=3)) == greedy
    if kind != "scripted":  # which knows no top-p and min-p
        assert sampled(open_source, Sampling(1.0, top_p=1e-6, seed=3)) == greedy
        assert sampled(open_source, Sampling(1.0, min_p=1.0, seed=3)) == greedy


def test_a_sampled_lookahead_is_what_comes_next(open_source: Opener) -> None:
    source = prefilled(open_source(), sampling=WARM)
    for _ in range(20):
        draft = source.draft(LIMIT)
        source.commit(candidate(draft))
        if draft.ends:
            break
        assert source.draft(LIMIT).text.startswith(draft.lookahead)


# --- Prompts --------------------------------------------------------------------------------


def test_a_chat_is_a_prompt_too(open_source: Opener) -> None:
    source = open_source()
    turns = Chat((Message("system", "Be brief."), Message("user", "How many shells?")))
    assert prefill(source, turns, sampling=GREEDY) > 3
    assert source.draft(LIMIT).text
    assert source.source.info.name == "s"


# --- Grammars -------------------------------------------------------------------------------

FORM = 'root ::= " " ("fox" | "24" | "zqx")+ ("." | ", é")\n'
FORM_PATTERN = re.compile(r" (fox|24|zqx)+(\.|, é)")


def form_allows(_grammar: str, text: bytes, ends: bool) -> bool:
    """The same as FORM, for sources that cannot read it; texts are long enough for all cases."""
    shown = text.decode(errors="ignore")
    if shown.encode() != text and not ", é".encode().startswith(text[-3:]):
        return False
    if ends:
        return FORM_PATTERN.fullmatch(shown) is not None
    rests = ("", "fox", "ox", "x", "24", "4", "zqx", "qx")
    return any(
        FORM_PATTERN.fullmatch(head + rest + end)
        for head in (shown, shown or " ")
        for rest in rests
        for end in (".", "", " é", "é")
    )


@pytest.fixture
def formed(open_source: Opener, kind: str) -> Session:
    """A source that has read PROMPT and answers in the form of FORM."""
    source = open_source(**({"obeys": form_allows} if kind == "scripted" else {}))
    prefill(source, PROMPT, sampling=GREEDY, grammar=FORM)
    return source  # type: ignore[no-any-return]


def test_a_whole_draft_has_the_form(formed: Session) -> None:
    for limit in range(1, 60):
        draft = formed.extend(limit) if limit > 1 else formed.draft(limit)
        assert form_allows(FORM, draft.text, draft.ends)
        assert not draft.is_stuck
        if draft.ends:
            break


def test_the_form_follows_whoever_writes(formed: Session) -> None:
    for text in (b" fo", b"x2", b"4", b", "):  # straddles the tokens of words
        formed.commit(Candidate(text, False))
    draft = formed.draft(LIMIT)
    while not draft.ends:
        draft = formed.extend(LIMIT)
    assert draft == Draft("é".encode(), True, b"", draft.token_ends)
    formed.commit(Candidate(draft.text, False))
    end = formed.draft(LIMIT)
    assert (end.text, end.ends) == (b"", True)
    formed.restart()
    assert formed.draft(1).text[:1] == b" "


def test_text_that_breaks_the_form_leaves_a_source_stuck(formed: Session) -> None:
    formed.draft(LIMIT)
    formed.commit(Candidate(b" dog", False))
    draft = formed.draft(LIMIT)
    assert draft == Draft(b"", False, b"", (), is_stuck=True)
    assert formed.extend(LIMIT) == draft
    prefill(formed, PROMPT, sampling=GREEDY)
    assert formed.draft(LIMIT).text


def test_trimmed_and_rolled_back_drafts_keep_the_form(formed: Session) -> None:
    draft = formed.draft(1)
    while not draft.ends and len(draft.token_ends) < 3:
        draft = formed.extend(3)
    formed.trim(draft.token_ends[0])
    assert formed.extend(3).text.startswith(draft.text[: draft.token_ends[1]])
    formed.rollback()
    assert formed.draft(1).text == draft.text[: draft.token_ends[0]]
    formed.score([Candidate(b" zqx", False), Candidate(b" dog", True)])
    formed.commit(Candidate(b" zqx", False))
    following = formed.draft(LIMIT)
    assert form_allows(FORM, b" zqx" + following.text, following.ends)


def test_scores_are_the_same_with_and_without_a_form(open_source: Opener, kind: str) -> None:
    free = prefilled(open_source())
    bound = open_source(**({"obeys": form_allows} if kind == "scripted" else {}))
    prefill(bound, PROMPT, sampling=GREEDY, grammar=FORM)
    assert_same(bound.score(MIXED), free.score(MIXED))


# --- Token by token -------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [PROMPT, LONG_PROMPT], ids=["short", "long"])
def test_a_text_is_read_token_by_token(
    source: Session, open_source: Opener, prompt: RawText
) -> None:
    assert isinstance(source, Legible)
    tokens = list(source.read_tokens(prompt, 2))
    assert b"".join(token.text for token in tokens).decode() == prompt.text
    assert (tokens[0].nll_nats, tokens[0].likely) == (None, ())
    for token in tokens[1:]:
        (_, best), (_, second) = token.likely
        assert token.nll_nats is not None
        assert token.nll_nats >= best <= second
        assert any(token.nll_nats == nats for _, nats in token.likely) or token.nll_nats >= second
    assert not any(token.likely for token in source.read_tokens(PROMPT, 0))
    # Nothing of it is left.
    assert_alike(prefilled(source, prompt), prefilled(open_source(), prompt))


def test_reading_tokens_may_stop_anywhere(source: Session, open_source: Opener) -> None:
    assert isinstance(source, Legible)
    for n in (1, 2, 30):
        tokens = source.read_tokens(LONG_PROMPT, 1)
        for _ in range(n):
            next(tokens)
        tokens.close()
        assert_alike(prefilled(source), prefilled(open_source()))

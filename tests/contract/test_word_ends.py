"""How likely a word ends where it does, and how much is left for other words."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from contract import (
    GREEDY,
    LIMIT,
    MIXED,
    NLL_NOISE,
    PROMPT,
    WORDS,
    Opener,
    ahead,
    assert_same,
    candidate,
    prefilled,
)

from cf_local.method.boundary import words_of
from cf_local.method.session import Others, Session, prefill
from cf_local.types import Candidate, Score

SYLLABLES = ("ru", "n", "ning", "the", "fo", "x", "do", "ll", "ar", "s", "a", "é")


def starts_of(session: Session) -> Any:
    source: Any = session.source
    if source.vocabulary is None:
        pytest.skip("its vocabulary is on its node alone")
    return source.word_starts if hasattr(source, "word_starts") else source.vocabulary.word_starts


def pieces_of(session: Session) -> list[bytes]:
    """The texts of all tokens, in their order."""
    vocabulary: Any = session.source.vocabulary  # type: ignore[attr-defined]
    if vocabulary is None:
        pytest.skip("its vocabulary is on its node alone")
    if hasattr(vocabulary, "pieces"):
        return list(vocabulary.pieces)
    return [vocabulary.piece(token) for token in range(vocabulary.n_tokens)]


def probability(score: Score) -> float:
    return math.exp(-score.nll_nats - score.word_end_nats)


# --- The end of a word ----------------------------------------------------------------------


def test_the_end_of_a_word_comes_on_top_of_the_score(open_source: Opener) -> None:
    source, plain = prefilled(open_source()), prefilled(open_source())
    own = candidate(source.draft(LIMIT))
    candidates = [*MIXED, own, Candidate(b" shells", True), Candidate(b"", True)]
    with_ends = source.score(candidates, word_ends=True)
    plain.draft(LIMIT)
    without = plain.score(candidates)
    assert_same(with_ends, without)
    assert {score.word_end_nats for score in without} == {0.0}
    for one, score in zip(candidates, with_ends, strict=True):
        assert score.word_end_nats == 0 if one.ends else 0 < score.word_end_nats < math.inf


def test_word_ends_can_be_asked_for_after_the_score(source: Session) -> None:
    source.draft(LIMIT)
    before = source.score(MIXED)
    after = source.score(MIXED, word_ends=True)
    assert_same(after, before)
    again = source.score(MIXED, word_ends=True)
    assert again == after


def test_a_word_ends_as_often_as_the_next_token_begins_another(source: Session) -> None:
    """Of the tokens that begin a word, and of the others, some are tried one by one."""
    word = Candidate(b" fox", False)
    (score,) = source.score([word], word_ends=True)
    starts = set(starts_of(source).after("x").tolist())
    shares = {token in starts: 0.0 for token in (*starts, -1)}
    for token, piece in enumerate(pieces_of(source)):
        longer = word.text + piece
        if not 1 < len(piece) < 4 or not longer.isascii():
            continue
        (found,) = source.score([Candidate(longer, False)])
        source.rollback()
        if found.n_terms == score.n_terms + 1:
            shares[token in starts] += math.exp(score.nll_nats - found.nll_nats)
    begun, gone_on = shares[True], shares[False]
    assert begun > 0
    noise = math.exp(3 * NLL_NOISE)
    assert begun <= math.exp(-score.word_end_nats) * noise
    assert math.exp(-score.word_end_nats) <= (1 - gone_on) * noise


# --- All other words ------------------------------------------------------------------------


def one_word(draw: random.Random, session: Session) -> bytes:
    """A text that may be a segment of one word in this vocabulary."""
    text = "".join(draw.choices(SYLLABLES, k=draw.randint(1, 3)))
    return draw.choice(
        (
            f" {text}".encode(),
            text.encode(),
            str(draw.randrange(300)).encode(),
            draw.choice(WORDS).encode(),
            draw.choice((b".", b",", b"\n\nThe", b" 2", b" 24", b"'")),
            "東".encode(),
            _piece_of(draw, session),
        )
    )


def _piece_of(draw: random.Random, session: Session) -> bytes:
    """The text of a token, which may join two words."""
    pieces = pieces_of(session)
    texts = [piece for piece in pieces if piece.decode(errors="ignore").encode() == piece]
    return draw.choice([text for text in texts if text.strip()])


def drawn_candidates(draw: random.Random, session: Session) -> list[Candidate]:
    texts = [one_word(draw, session) for _ in range(draw.randint(1, 3))]
    return [Candidate(text, draw.random() < 0.2) for text in texts]


def other_segments(
    draw: random.Random, session: Session, candidates: Sequence[Candidate]
) -> Iterator[Candidate]:
    """Some like the candidates, some not."""
    texts = [one_word(draw, session) for _ in range(12)]
    for known in candidates:
        texts += [known.text[:n] for n in range(1, len(known.text))]
        texts += [known.text + tail for tail in (b"s", b"ning", b"4", b".")]
    for text in dict.fromkeys(texts):
        whole = text.decode(errors="ignore")
        if whole.encode() == text and whole.strip() and len(words_of(whole)) == 1:
            yield from (Candidate(text, ends) for ends in (False, True))
    yield Candidate(b"", True)


def most(bounds: Sequence[Others], text: bytes) -> float:
    """Some entry is a beginning of any text."""
    return max(bound.probability for bound in bounds if text.startswith(bound.text))


@pytest.mark.parametrize("seed", range(4))
def test_no_other_segment_is_likelier_than_its_bound(open_source: Opener, seed: int) -> None:
    draw = random.Random(seed)
    source = prefilled(open_source())
    n_tight = n_all = 0
    for _ in range(4):
        candidates = drawn_candidates(draw, source)
        if draw.random() < 0.7:
            candidates.append(candidate(source.draft(LIMIT)))
        candidates = list(dict.fromkeys(candidates))
        source.score(candidates, word_ends=True)
        n_passes = source.counters.n_passes
        bounds = source.others(candidates, source.source.joins)
        assert source.counters.n_passes == n_passes
        assert all(0 <= bound.probability <= 1 + 1e-6 for bound in bounds)
        others = [
            one
            for one in other_segments(draw, source, candidates)
            if one not in candidates and (one.text or one.ends)
        ]
        for one in others:
            (score,) = source.score([one], word_ends=True)
            noise = math.exp(NLL_NOISE * (score.n_terms + 1))
            assert probability(score) <= most(bounds, one.text) * noise + 1e-6, (one, candidates)
            n_tight += most(bounds, one.text) < 0.6
            n_all += 1
        source.rollback()
        source.commit(draw.choice(candidates))
    assert n_tight > n_all / 10


def test_what_has_been_read_of_a_sure_text_leaves_little_to_others(open_source: Opener) -> None:
    """All shares of the candidates and of what departs from them are one in all."""
    source = prefilled(open_source())
    own = candidate(source.draft(LIMIT))
    (score,) = source.score([own], word_ends=True)
    bounds = source.others([own], lambda _char: frozenset())
    left = 1 - probability(score)
    assert max(bound.probability for bound in bounds) <= left * math.exp(3 * NLL_NOISE) + 1e-6


def test_nothing_is_known_of_other_words_where_a_candidate_does_not_fit(
    open_source: Opener, kind: str
) -> None:
    if kind == "mamba":
        pytest.skip("its state has one size however much it read")
    source = prefilled(open_source(n_ctx=64))
    endless = Candidate(b" the fox" * 4000, False)
    (score,) = source.score([endless], word_ends=True)
    assert score.nll_nats == math.inf
    assert source.others([endless], source.source.joins) == [Others(b"", 1.0)]


# --- Commits that are read later ------------------------------------------------------------


def lazily(source: Session) -> Session:
    prefill(source, PROMPT, sampling=GREEDY, looks_ahead=True)
    return source


def test_committed_text_is_read_with_what_follows_it(open_source: Opener, kind: str) -> None:
    source = lazily(open_source())
    if source.lookahead is None:
        pytest.skip("its passes cannot be deferred")
    before = source.counters
    for text in (b" the", b" fox", b" dog", b" over", b" the hill"):
        source.commit(Candidate(text, False))
    assert source.counters == before
    assert source.n_response_tokens > 5
    source.score(MIXED)
    assert source.counters.n_passes == before.n_passes + 1


def test_text_that_waits_is_read_from_time_to_time(open_source: Opener) -> None:
    source = lazily(open_source())
    before = source.counters
    for _ in range(60):
        source.commit(Candidate(b" the fox,", False))
    n_waiting = source.n_response_tokens - (source.counters.n_tokens - before.n_tokens)
    assert 0 <= n_waiting <= 32
    if source.lookahead is not None:
        n_passes = source.counters.n_passes - before.n_passes
        assert n_passes <= source.n_response_tokens / 32


def do_something(source: Session, text: bytes, draw: random.Random) -> None:
    """Anything but a commit; ``text`` may come next."""
    asks: list[Callable[[], object]] = [
        lambda: source.score([Candidate(text, False), *MIXED], word_ends=draw.random() < 0.5),
        lambda: source.draft(draw.randint(1, 4)),
        source.rollback,
    ]
    if source.lookahead is not None:
        asks += [
            lambda: ahead(source).prefetch([text, text + b" hill", b" zqx"]),
            lambda: ahead(source).extend(2),
            lambda: ahead(source).extend(2, after=text),
        ]
    draw.choice(asks)()


@pytest.mark.parametrize("seed", range(3))
def test_reading_later_changes_nothing(open_source: Opener, seed: int) -> None:
    """Whatever else is asked in between."""
    draw, source, fresh = random.Random(seed), lazily(open_source()), prefilled(open_source())
    known = [*MIXED, Candidate(b" shells", True)]
    for _ in range(50):
        text = "".join(draw.choices(WORDS, k=draw.choice((1, 1, 1, 9)))).encode()
        for _ in range(draw.choice((0, 0, 1, 2))):
            do_something(source, text, draw)
        source.commit(Candidate(text, False))
        fresh.commit(Candidate(text, False))
        if draw.random() < 0.2:
            found, expected = (each.score(known, word_ends=True) for each in (source, fresh))
            assert_same(found, expected)
            ends = [score.word_end_nats for score in expected]
            assert [s.word_end_nats for s in found] == pytest.approx(ends, abs=NLL_NOISE)
    assert source.n_response_tokens == fresh.n_response_tokens
    assert source.n_free == fresh.n_free
    assert candidate(source.draft(LIMIT)).text  # it can go on


# --- What would follow some text ------------------------------------------------------------


def test_what_would_follow_a_text_is_what_comes_once_it_is_committed(open_source: Opener) -> None:
    source, fresh = lazily(open_source()), prefilled(open_source())
    if source.lookahead is None:
        pytest.skip("it does not look ahead")
    text = b" the fox"
    fresh.commit(Candidate(text, False))
    source.draft(LIMIT)
    source.rollback()
    assert ahead(source).known(after=text).text == b""
    for n in range(1, 6):
        ahead(source).extend(1, after=text)
        known = ahead(source).known(after=text)
        assert (known.text != b"") or known.ends
        assert 0 < ahead(source).confidence(0, after=text) <= 1
        assert n == 1 or len(known.text) >= n
    source.commit(Candidate(text, False))
    n_passes = source.counters.n_passes
    assert ahead(source).known() == known
    draft = source.draft(LIMIT)
    assert known.text.startswith(draft.text) or draft.text.startswith(known.text)
    if len(known.text) > len(draft.text) + len(draft.lookahead):
        assert source.counters.n_passes == n_passes
    own, other = fresh.score([candidate(fresh.draft(LIMIT)), candidate(draft)])
    assert abs(own.nll_nats - other.nll_nats) <= 0.2 or own == other or own.n_terms != other.n_terms


def test_the_known_text_goes_on_after_a_beginning_of_itself(open_source: Opener) -> None:
    source = lazily(open_source())
    if source.lookahead is None:
        pytest.skip("it does not look ahead")
    source.draft(LIMIT)
    source.rollback()
    ahead(source).extend(6)
    known = ahead(source).known()
    assert len(known.text) >= 6 or known.ends
    n_passes = source.counters.n_passes
    draft = source.draft(LIMIT)
    later = ahead(source).known(after=draft.text)
    assert known.text.startswith(draft.text + later.text)
    assert later.text or draft.ends or source.counters.n_passes > n_passes


def test_lookahead_after_a_text_that_does_not_fit_is_empty(open_source: Opener) -> None:
    source = open_source(n_ctx=48)
    lazily(source)
    if source.lookahead is None:
        pytest.skip("it does not look ahead")
    source.draft(1)
    source.rollback()
    text = b" the fox," * 30
    ahead(source).extend(1, after=text)
    assert ahead(source).known(after=text).text == b""

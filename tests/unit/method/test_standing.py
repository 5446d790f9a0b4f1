"""A decision that is made early is the one that full knowledge would have led to.

Segments are short texts over two letters, with or without the end of the answer. Each source gives
each of them a probability, drafts one of them, and tells what it knows bit by bit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import pytest

from cf_local.method.deciding import Standing
from cf_local.method.session import Others
from cf_local.types import Candidate

TEXTS = [b"", *("".join(word).encode() for n in (1, 2, 3) for word in product("ab", repeat=n))]
SEGMENTS = [Candidate(text, ends) for text in TEXTS for ends in (False, True) if text or ends]
A, B, AB = (Candidate(text, False) for text in (b"a", b"b", b"ab"))
Shares = Mapping[Candidate, float]


def drawn_shares(draw: random.Random) -> Shares:
    """A source's probabilities: a few segments have most of it."""
    sharpness = draw.choice((1, 3, 10))
    shares = {segment: draw.random() ** sharpness for segment in SEGMENTS}
    shares[draw.choice(SEGMENTS)] += draw.choice((0, 1, 10))
    total = sum(shares.values()) / draw.choice((1.0, 0.7))
    return {segment: share / total for segment, share in shares.items()}


def drawn_draft(shares: Shares, draw: random.Random) -> Candidate:
    """A draft is greedy: it is not always the likeliest segment."""
    return max(shares, key=lambda segment: shares[segment] * draw.random())


def drawn_bounds(shares: Shares, but: Iterable[Candidate], draw: random.Random) -> list[Others]:
    """Bounds that hold for all segments except some; loose or as tight as can be."""
    texts = {b"", *draw.sample(TEXTS, draw.randrange(len(TEXTS)))}
    highest = dict.fromkeys(texts, 0.0)
    for segment, share in shares.items():
        if segment not in but:
            covers = [text for text in texts if segment.text.startswith(text)]
            text = draw.choice(covers)
            highest[text] = max(highest[text], share)
    loose = draw.choice((0.0, 0.0, 0.1))
    return [Others(text, share + loose * draw.random()) for text, share in highest.items()]


def best_of_all(
    weights: Sequence[float], shares: Sequence[Shares], candidates: Iterable[Candidate]
) -> Candidate:
    def mixture(candidate: Candidate) -> float:
        return sum(w * s[candidate] for w, s in zip(weights, shares, strict=True))

    return max(candidates, key=mixture)


def test_it_never_decides_against_what_all_would_decide() -> None:
    draw, n_early, n_steps = random.Random(5), 0, 4000
    for _ in range(n_steps):
        n_sources = draw.randint(1, 4)
        weights = [draw.choice((0.0, 0.3, 1.0, 1.0, 4.0)) for _ in range(n_sources)]
        weights[draw.randrange(n_sources)] = 2.0
        shares = [drawn_shares(draw) for _ in range(n_sources)]
        drafts = [drawn_draft(each, draw) for each in shares]
        everything = best_of_all(weights, shares, dict.fromkeys(drafts))
        standing, known = Standing(weights), dict[Candidate, None]()
        openings = [b""] * n_sources  # of what each may still propose
        missing = set(range(n_sources))
        while missing:
            index = draw.choice(sorted(missing))
            if draw.random() < 0.7:
                known[drafts[index]] = None
                missing.remove(index)
            elif drafts[index] not in known:
                openings[index] = drafts[index].text[: draw.randrange(3)]
            scored = list(known)[: draw.randint(1, 9)]
            bounds = drawn_bounds(shares[index], scored, draw)
            standing.note(index, {c: shares[index][c] for c in scored}, bounds)
            if not known:
                continue
            winner = standing.winner(list(known), [openings[i] for i in missing])
            assert winner in (None, everything)
            n_early += winner is not None and bool(missing)
    assert n_early > n_steps / 4  # or this says little


def test_more_than_half_of_all_is_enough() -> None:
    standing = Standing([3.0, 1.0])
    standing.note(0, {A: 0.7}, [Others(b"", 0.3)])
    assert standing.winner([A], [b""]) == A  # 0.525 against at most 0.225 + 0.25


def test_half_is_not_enough_while_another_may_have_the_rest() -> None:
    standing = Standing([1.0, 1.0])
    standing.note(0, {A: 0.9}, [Others(b"", 0.1)])
    assert standing.winner([A], [b""]) is None  # 0.45 against at most 0.05 + 0.5


def test_the_rest_of_a_source_may_be_spread_so_that_nothing_can_win() -> None:
    standing = Standing([1.0, 1.0])
    standing.note(0, {A: 0.55}, [Others(b"", 0.02)])
    standing.note(1, {A: 0.3}, [Others(b"b", 0.6), Others(b"", 0.01)])
    assert standing.winner([A], [b"b"]) == A  # 0.425 against 0.31 at most


def test_equal_candidates_are_not_decided_early() -> None:
    standing = Standing([1.0, 1.0])
    standing.note(0, {A: 0.5, B: 0.4}, [Others(b"", 0.1)])
    standing.note(1, {A: 0.4, B: 0.5}, [Others(b"", 0.1)])
    assert standing.winner([A, B], []) is None


def test_a_word_that_goes_on_is_bounded_where_it_departs() -> None:
    """What follows "a" is known to be little; so nothing that begins with it can win."""
    standing = Standing([1.0])
    standing.note(0, {A: 0.4}, [Others(b"", 0.5), Others(b"a", 0.01)])
    assert standing.winner([A], [b"a"]) is None  # a bound of an empty beginning holds for all
    standing.note(0, {A: 0.4}, [Others(b"", 0.1), Others(b"a", 0.01), Others(b"b", 0.5)])
    assert standing.winner([A, AB], [b"a"]) == A


def test_openings_tell_what_can_still_come() -> None:
    standing = Standing([1.0, 1.0])
    standing.note(0, {A: 0.6}, [Others(b"", 0.0), Others(b"b", 0.4), Others(b"a", 0.1)])
    standing.note(1, {A: 0.1}, [Others(b"", 0.0), Others(b"b", 0.8), Others(b"a", 0.1)])
    assert standing.winner([A], [b"b"]) is None
    assert standing.winner([A], [b"a"]) == A
    assert standing.winner([A], [b"a", b"b"]) is None
    assert standing.winner([A], []) == A


def test_what_a_source_said_before_is_replaced() -> None:
    standing = Standing([1.0])
    standing.note(0, {A: 0.6}, [Others(b"", 0.4)])
    standing.note(0, {A: 0.2, B: 0.7}, [Others(b"", 0.1)])
    assert standing.winner([A, B], [b""]) == B


def test_a_source_of_weight_zero_changes_nothing() -> None:
    standing = Standing([1.0, 0.0])
    standing.note(0, {A: 0.6}, [Others(b"", 0.4)])
    assert standing.open_share(1) == 0
    assert standing.winner([A], [b""]) == A


@pytest.mark.parametrize("weights", [[1.0, 1.0], [5.0, 5.0]])
def test_only_the_ratios_of_weights_count(weights: list[float]) -> None:
    standing = Standing(weights)
    assert standing.open_share(0) == 0.5
    standing.note(0, {A: 0.9}, [Others(b"", 0.04), Others(b"a", 0.06)])
    assert standing.open_share(0) == pytest.approx(0.03)

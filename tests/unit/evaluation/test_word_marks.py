"""Variants tried on many words at once, against one word at a time; shares clustered by text."""

from __future__ import annotations

import math
import random
from itertools import combinations

import numpy as np
import pytest

from cf_local.evaluation import Item, Variant, Walk, summarize_words
from cf_local.evaluation.walk import Word
from cf_local.evaluation.word_marks import WordMarks
from cf_local.method.reranker import decide
from cf_local.settings import Settings
from cf_local.types import SCORES, Candidate, RawText, Score, SourceInfo

SOURCES = [SourceInfo(name, "", n_parameters=n) for n, name in enumerate(("a", "b", "c"), start=1)]
NAMES = [source.name for source in SOURCES]


def item(walk: Walk, group: str = "") -> Item:
    return Item(walk.item, RawText("?"), "text", group)


def alone(name: str) -> Variant:
    return Variant(name, Settings(mode="single", only=name))


def random_word(rng: random.Random) -> Word:
    """A word with ties, impossible candidates and agreement."""
    drafts = rng.choice([(0, 0, 0), (0, 1, 2), (0, 0, 1), (0, 1, 0), (0, 1, 1)])
    n = max(drafts) + 1

    def score() -> Score:
        nats = rng.choice([0.0, 0.5, 1.0, 2.0, rng.random() * 3, math.inf])
        return Score(nats, rng.randint(1, 3), rng.choice([0.0, 0.1]))

    rows = tuple(tuple(score() for _ in range(n)) for _ in NAMES)
    right = rng.randrange(-1, n)
    return Word(
        tuple(Candidate(b"x" * rng.randrange(4) + b"%d" % index, False) for index in range(n)),
        drafts,
        tuple(index == right for index in range(n)),
        rows if n > 1 else (),
        tuple(score() for _ in NAMES),
    )


def random_walks(rng: random.Random, n: int = 8) -> list[Walk]:
    """Some are empty: their prompts did not fit."""
    sizes = [rng.choice([0, 1, 5, 30]) for _ in range(n - 1)] + [9]
    return [
        Walk(f"t{i}", size, tuple(random_word(rng) for _ in range(size)))
        for i, size in enumerate(sizes)
    ]


def is_right(word: Word, source: int) -> bool:
    """Whether a source alone would write the next word."""
    return word.right[word.drafts[source]]


def right_with(word: Word, settings: Settings, infos: list[SourceInfo | None]) -> bool:
    """Whether the fusion of some sources writes the next word (None: it does not take part)."""
    part = [index for index, info in enumerate(infos) if info is not None]
    columns = list(dict.fromkeys(word.drafts[index] for index in part))
    if len(columns) == 1:
        return word.right[columns[0]]
    scores = [[word.scores[row][column] for column in columns] for row in part]
    weights = settings.weights_of([info for info in infos if info is not None])
    candidates = [word.candidates[column] for column in columns]
    return word.right[columns[decide(scores, candidates, settings.score, weights).winner]]


PARTS = [part for size in (1, 2, 3) for part in combinations(NAMES, size)]


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("weights", ["size", "equal", {"a": 0.0, "b": 2.0}])
@pytest.mark.parametrize("seed", range(6))
def test_all_words_at_once_are_as_one_at_a_time(kind: str, weights: object, seed: int) -> None:
    found = random_walks(random.Random(seed))
    marks = WordMarks(found, SOURCES)
    words = [word for walk in found for word in walk.words]
    for part in PARTS:
        own = (
            weights if isinstance(weights, str) else {n: w for n, w in weights.items() if n in part}
        )  # type: ignore[attr-defined]
        if part == ("a",) and own != "size" and own != "equal":
            continue  # a weight of 0 alone is refused
        settings = Settings(score=kind, weights=own)
        infos = [source if source.name in part else None for source in SOURCES]
        slow = [right_with(word, settings, infos) for word in words]
        assert marks.right(Variant(str(part), settings, part)).tolist() == slow
    for index, name in enumerate(NAMES):
        assert marks.right(alone(name)).tolist() == [is_right(word, index) for word in words]
    assert marks.any_right().tolist() == [any(is_right(w, i) for i in range(3)) for w in words]
    assert marks.agreed().tolist() == [len(word.candidates) == 1 for word in words]


def word(drafts: str, right: str, nats: dict[str, float] | None = None) -> Word:
    """A word with a draft per source, each a letter, and one score by letter for all sources."""
    letters = list(dict.fromkeys(drafts))
    nats = nats or dict.fromkeys(letters, 1.0)
    return Word(
        tuple(Candidate(letter.encode(), False) for letter in letters),
        tuple(map(letters.index, drafts)),
        tuple(letter == right for letter in letters),
        tuple(tuple(Score(nats[letter], 1) for letter in letters) for _ in drafts),
        tuple(Score(0.5 + i, 1) for i, _ in enumerate(drafts)),
    )


WALKS = [
    Walk("t0", 3, (word("xxy", "x"), word("xyz", "y", {"x": 3, "y": 1, "z": 2}), word("xxx", "x"))),
    Walk("t1", 2, (word("xyy", "y", {"x": 1, "y": 2}), word("zzz", "x"))),
    Walk("t2", 4, ()),
    Walk("t3", 5, (word("xyz", "z", {"x": 1, "y": 1, "z": 1}),)),
]
ITEMS = [item(walk, group) for walk, group in zip(WALKS, "uvuu", strict=True)]
COOL = Variant("cool", Settings(weights="equal"))


def test_what_is_counted() -> None:
    marks = WordMarks(WALKS, SOURCES)
    assert marks.texts(COOL) == ["x", "y", "x", "x", "z", "x"]  # a tie goes to the first
    assert marks.texts(Variant("v", COOL.settings, ("c", "b")))[-1] == "z"
    assert [marks.n_right(v, ITEMS) for v in (*map(alone, NAMES), COOL)] == [2, 4, 3, 3]
    assert marks.best(list(map(alone, NAMES)), ITEMS).name == "b"
    assert marks.n_right(alone("b"), ITEMS[:1]) == 3
    versus = marks.versus(COOL, alone("a"), ITEMS)
    assert (versus.won, versus.lost, versus.p_value) == (1, 0, 1.0)
    assert marks.versus(COOL, alone("b"), ITEMS[1:]).lost == 1
    share = marks.share(COOL, ITEMS)
    assert (share.n, share.value) == (6, 0.5)
    assert 0 <= share.low < 0.5 < share.high <= 1
    assert marks.wins(COOL) == {"a": 3, "b": 2}
    assert marks.wins(Variant("v", COOL.settings, ("b", "c"))) == {"b": 3}
    nats = marks.next_nats(ITEMS)
    assert nats.shape == (3, 6)
    assert np.unique(nats[2]).tolist() == [2.5]


def test_the_summary_leaves_out_what_did_not_fit() -> None:
    variants = [*map(alone, NAMES), COOL]
    found = summarize_words("t", variants, ITEMS, WALKS, SOURCES)
    assert found is not None
    assert (found.n_items, found.n_words, found.n_no_room, found.n_cut) == (3, 6, 1, 1)
    assert (found.best_alone, found.ceiling.value) == ("b", 5 / 6)
    assert found.agreed.value == 2 / 6
    *_, best, _, cool = found.rows
    assert (best.variant, best.versus, best.wins) == ("b", None, {})
    assert (cool.accuracy.value, cool.is_alone) == (0.5, False)
    assert {name: share.n for name, share in cool.groups.items()} == {"u": 4, "v": 2}
    assert cool.versus is not None
    assert (cool.versus.won, cool.versus.lost) == (0, 1)
    assert summarize_words("t", variants, ITEMS, [WALKS[2]], SOURCES) is None
    part = summarize_words("t", variants[3:], ITEMS, WALKS[:1], SOURCES)
    assert part is not None
    assert (part.n_items, part.best_alone, part.rows[0].versus) == (1, None, None)

"""Sources over real vocabularies write together: nothing lost, nothing cut in two, nothing loops.

Every proposal of every source is checked against the method by ``checked_run``. The same runs,
counted and printed: ``python -m tests.vocab.report``.
"""

import pytest

from cf_local.types import SegmentKind

from .checked_run import Run, babbles, fuse, writes_in
from .corpus import TEXTS
from .report import NEIGHBOURS, PAIRS, TRIPLES, Group, measure
from .vocabularies import GENERATIVE

pytestmark = pytest.mark.vocab

KINDS = pytest.mark.parametrize("segments", ["aligned", "shortest"])
DISAGREEMENTS = [("english", "urls"), ("chinese", "emoji"), ("code", "thai"), ("numbers", "arabic")]


@KINDS
@pytest.mark.parametrize("group", NEIGHBOURS, ids="+".join)
def test_neighbours_write_every_text(group: Group, segments: SegmentKind) -> None:
    assert measure([group], segments).violations == []


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("name", GENERATIVE)
def test_all_pairs_write_every_text(name: str, segments: SegmentKind) -> None:
    pairs = [pair for pair in PAIRS if pair[0] == name]
    assert measure(pairs, segments).violations == []


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("triple", TRIPLES, ids="+".join)
def test_triples_write_every_text(triple: Group, segments: SegmentKind) -> None:
    assert measure([triple], segments).violations == []


@KINDS
@pytest.mark.parametrize("group", NEIGHBOURS, ids="+".join)
def test_sources_that_disagree_keep_the_rules(group: Group, segments: SegmentKind) -> None:
    for texts in DISAGREEMENTS:
        one, other = (TEXTS[key].encode() for key in texts)
        stories = (one, one[: len(one) // 2] + other)
        run = fuse(group, lambda index, name, s=stories: writes_in(name, s[index]), segments)
        assert _flaws(run) == []
        assert run.text.startswith(one[: len(one) // 3])


@KINDS
@pytest.mark.parametrize("group", [*NEIGHBOURS, *TRIPLES], ids="+".join)
def test_sources_that_babble_keep_the_rules(group: Group, segments: SegmentKind) -> None:
    for seed in range(3):
        run = fuse(group, lambda index, name, s=seed: babbles(name, 10 * s + index), segments)
        assert _flaws(run) == []


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("group", NEIGHBOURS[::4], ids="+".join)
def test_a_low_segment_limit_loses_nothing(group: Group, limit: int) -> None:
    for key in ("base64", "no-spaces", "whitespace", "emoji", "hindi"):
        text = TEXTS[key].encode()
        run = fuse(group, lambda _, name, t=text: writes_in(name, t), "aligned", limit)
        assert _flaws(run) == []
        assert run.text == text
        assert run.n_forced > 0


def test_equal_vocabularies_end_segments_at_every_word() -> None:
    text = TEXTS["english"].encode()
    run = fuse(("qwen2", "qwen2"), lambda _, name: writes_in(name, text), "aligned")
    alone = fuse(("qwen2",), lambda _, name: writes_in(name, text), "shortest")
    assert run.segments == alone.segments


def _flaws(run: Run) -> list[str]:
    ended = [] if run.answer.finish_reason == "stop" else [run.answer.finish_reason]
    return [*run.violations, *ended]

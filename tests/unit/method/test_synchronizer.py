"""Drafts that end where every source can cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import PROMPT, VOCABULARIES, noise

from cf_local.method.boundary import is_character_boundary, is_word_boundary
from cf_local.method.session import prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.settings import Sampling
from cf_local.testing import PieceVocabulary, Script, ScriptedSession, ScriptedSource, writes
from cf_local.types import Draft


def prefilled(name: str, vocabulary: PieceVocabulary, script: Script) -> ScriptedSession:
    session = ScriptedSource(name, vocabulary, script).sessions[0]
    prefill(session, PROMPT, sampling=Sampling())
    return session


def writing(text: str, *pieces: str) -> ScriptedSession:
    vocabulary = PieceVocabulary(pieces)
    return prefilled("writer", vocabulary, writes(text, vocabulary))


def judging(*pieces: str) -> ScriptedSession:
    vocabulary = PieceVocabulary(pieces)
    return prefilled("judge", vocabulary, writes("", vocabulary))


def test_a_shortest_segment_ends_at_the_own_word_boundary() -> None:
    source = writing("run, fox", "run", ",", " fox")
    assert draft_segment(source, [judging("run,")], "shortest", 32).text == b"run"


def test_an_aligned_segment_goes_on_to_the_common_boundary() -> None:
    source = writing("run, fox jumps", "run", ",", " fox", " jumps")
    assert draft_segment(source, [judging("run,")], "aligned", 32).text == b"run,"
    source.rollback()
    judges = [judging("run,"), judging(", fox")]
    assert draft_segment(source, judges, "aligned", 32).text == b"run, fox"


def test_a_word_is_not_cut_where_its_source_would_go_on() -> None:
    source = writing("running fast", "run", "ning", " fast")
    assert draft_segment(source, [judging("run", "ning")], "aligned", 32).text == b"running"


def test_a_lookahead_that_a_judge_joins_to_the_word_is_no_boundary() -> None:
    source = writing("8.5 fox", "8", ".", "5", " fox")
    assert draft_segment(source, [judging("8.")], "aligned", 32).text == b"8."


def test_an_ending_belongs_to_the_last_word() -> None:
    draft = draft_segment(writing("68.", "68."), [judging()], "aligned", 32)
    assert (draft.text, draft.ends, draft.lookahead) == (b"68.", True, b"")


def test_an_answer_that_ends_at_once_is_empty() -> None:
    assert draft_segment(writing(""), [judging()], "aligned", 32) == Draft(b"", True, b"", ())


def test_without_a_boundary_the_segment_is_cut_at_the_limit() -> None:
    source = writing("a" * 50, "aa")
    draft = draft_segment(source, [judging("aaa")], "aligned", 10)
    assert draft.text == b"a" * 18  # the last of 20 bytes where tokens of 2 and of 3 both end
    source = writing("a" * 50, "aa")
    assert draft_segment(source, [judging("aaa")], "shortest", 10).text == b"a" * 20


def test_a_cut_leaves_no_part_of_a_character() -> None:
    source = writing("é" * 20)  # two byte tokens each
    assert draft_segment(source, [judging()], "aligned", 5).text == "éé".encode()


def test_a_cut_without_a_common_place_keeps_what_its_own_source_allows() -> None:
    source = writing("a" * 50, "aa")
    assert draft_segment(source, [judging("a" * 40)], "aligned", 4).text == b"a" * 8


def test_half_a_character_is_kept_when_the_limit_allows_no_whole_one() -> None:
    source = writing("東" * 5)
    assert draft_segment(source, [judging()], "aligned", 1).text == "東".encode()[:1]


def test_a_longer_segment_ends_after_so_many_common_words() -> None:
    source = writing("run, fox jumps on", "run", ",", " fox", " jumps", " on")
    for kind, judge, n_words, text in (
        ("shortest", "run,", 1, b"run"),
        ("shortest", "run,", 3, b"run, fox"),
        ("aligned", "run,", 1, b"run,"),
        ("aligned", "run,", 2, b"run, fox"),
        ("aligned", ", fox", 2, b"run, fox"),
        ("aligned", "run,", 9, b"run, fox jumps on"),
    ):
        draft = draft_segment(source, [judging(judge)], kind, 32, n_words)  # type: ignore[arg-type]
        assert draft.text == text
        assert draft.ends == (n_words == 9)
        source.rollback()


def test_a_longer_segment_is_cut_at_the_last_word_that_the_limit_allows() -> None:
    source = writing("run, foxes jump", "run", ",", " fox", "es", " jump")
    assert draft_segment(source, [judging()], "aligned", 3, 4).text == b"run,"
    assert draft_segment(source, [judging()], "sentence", 3).text == b"run,"
    assert draft_segment(source, [judging()], "sentence", 4).text == b"run, foxes"


def test_a_segment_of_a_sentence() -> None:
    pieces = ("It", " is", " 3", ".", "5", ' "', "No", '!"', ")", " Yes", "\n", "。", "是", "）")
    judges = [judging(" is"), judging()]
    for text, segment in (
        ("It is 3.5. Yes", "It is 3.5."),
        ('It is "No!") Yes', 'It is "No!")'),
        ("It is\n\nYes", "It is"),
        ("是。是", "是。"),
        ("是。）是", "是。）"),
        ("Yes", "Yes"),
    ):
        draft = draft_segment(writing(text, *pieces), judges, "sentence", 32)
        assert draft.text == segment.encode()
        assert draft.ends == (segment == "Yes")


class WithControl(PieceVocabulary):
    """Token 999 is a control token: it has no text."""

    def piece(self, token: int) -> bytes:
        return b"" if token == 999 else super().piece(token)


def test_nothing_but_control_tokens_is_an_ending() -> None:
    source = prefilled("writer", WithControl([]), lambda _response: {999: 1.0})
    draft = draft_segment(source, [judging()], "aligned", 4)
    assert (draft.text, draft.ends) == (b"", True)


def test_an_ending_at_the_limit_is_still_an_ending() -> None:
    draft = draft_segment(writing("abc"), [judging()], "aligned", 3)
    assert (draft.text, draft.ends) == (b"abc", True)


@pytest.mark.parametrize("kind", ["aligned", "shortest", "sentence"])
@given(
    seed=st.integers(0, 10**6),
    limit=st.integers(1, 12),
    order=st.permutations(range(3)),
    n_words=st.integers(1, 4),
)
def test_segments_end_at_common_words_or_are_cut_at_the_limit(
    kind: str, seed: int, limit: int, order: list[int], n_words: int
) -> None:
    source, *judges = (
        prefilled(str(i), VOCABULARIES[i], noise(VOCABULARIES[i], seed)) for i in order
    )
    draft = draft_segment(source, judges, kind, limit, n_words)  # type: ignore[arg-type]
    assert draft.text or draft.ends
    assert len(draft.token_ends) <= limit
    assert draft.token_ends == () or draft.token_ends[-1] == len(draft.text)
    if draft.ends:
        return
    seen = draft.text + draft.lookahead
    is_common = kind == "shortest" or all(len(draft.text) in j.token_ends(seen) for j in judges)
    if not (is_word_boundary(draft.text, draft.lookahead) and is_common):
        longer = source.extend(limit)
        assert longer.text.startswith(draft.text)  # it was cut, and could go on
        cuts = [e for e in draft.token_ends if is_character_boundary(seen[:e], seen[e:])]
        assert draft.token_ends[-1] in cuts or not cuts

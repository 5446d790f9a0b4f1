"""Windows hold each part of a text once, and every source can read every one of them."""

from hypothesis import given
from hypothesis import strategies as st

from cf_local.evaluation.windows import ending, windows
from cf_local.testing import PieceVocabulary, ScriptedSession, ScriptedSource, writes

COARSE = PieceVocabulary(["The ", "quick", " brown", " fox", "jumps", " over", " the", " lazy dog"])
FINE = PieceVocabulary(["qu", "ick", " br", "own", " fo", "x", "jum", "ps ov", "er"])
SENTENCE = "The quick brown fox jumps over the lazy dog. 東京 👍🏽 naïve\n\n"
TEXT = SENTENCE * 12


def session(name: str, vocabulary: PieceVocabulary) -> ScriptedSession:
    return ScriptedSource(name, vocabulary, writes("x", vocabulary)).sessions[0]


SOURCES = [session("coarse", COARSE), session("fine", FINE)]
VOCABULARIES = [COARSE, FINE]
words = st.sampled_from(["fox", " ", "quick", "東", "👍🏽", ".", "\n", "9", "ï"])
texts = st.lists(words, max_size=60).map("".join)
sizes = st.lists(st.integers(40, 120), min_size=2, max_size=2)


@given(texts.map(lambda text: text + SENTENCE * 3), st.integers(0, 400), sizes)
def test_every_part_is_in_one_window_that_fits(text: str, start: int, n_tokens: list[int]) -> None:
    found = windows(text, start, SOURCES, n_tokens)
    assert "".join(window.text for window in found) == text[start:]
    seen = text[:start]
    for window in found:
        assert window.text
        assert seen.endswith(window.context)
        seen += window.text
        for vocabulary, size in zip(VOCABULARIES, n_tokens, strict=True):
            n_read = sum(len(vocabulary.encode(part.encode())) for part in window)
            assert n_read < size  # a token is left for BOS


def test_a_text_that_fits_is_one_window_with_all_that_is_in_front_of_it() -> None:
    assert windows("one two", 3, SOURCES, [40, 40]) == [("one", " two")]
    assert windows("one two", 7, SOURCES, [40, 40]) == []
    assert windows("", 0, SOURCES, [40, 40]) == []


def test_windows_are_about_as_long_as_the_smallest_context() -> None:
    found = windows(TEXT, 0, SOURCES, [400, 100])
    n_tokens = [len(FINE.encode((w.context + w.text).encode())) for w in found]
    assert all(60 < n < 100 for n in n_tokens)
    assert all(window.context for window in found[1:])


def test_windows_end_where_words_and_tokens_of_all_sources_do() -> None:
    text = "jumps over " * 40  # FINE has a token "ps ov": no cut behind "jumps"
    found = windows(text, 0, SOURCES, [64, 64])
    assert len(found) > 2
    assert all(w.text.endswith("over") for w in found[:-1])


def test_text_without_any_place_to_cut_is_cut_between_characters() -> None:
    text = "é" * 300
    found = windows(text, 0, SOURCES, [64, 64])
    assert "".join(window.text for window in found) == text
    assert len(found) > 5


def test_the_ending_leaves_room() -> None:
    kept = ending(TEXT, SOURCES, [100, 400], 40)
    assert TEXT.endswith(kept)
    assert 20 < len(COARSE.encode(kept.encode())) <= 60
    assert ending("short", SOURCES, [100, 400], 40) == "short"

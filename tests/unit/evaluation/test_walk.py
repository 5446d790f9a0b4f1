"""Walks along reference texts, on scripted sources: what is right, and what is recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import VOCABULARIES, agreeing, table, writer_of

from cf_local.errors import Cancelled, InputError
from cf_local.evaluation import (
    Item,
    ReferenceFile,
    Variant,
    Walk,
    WalkFolder,
    WalkStore,
    parse_variant,
    record_of,
    record_of_walks,
    walk_settings,
    walks,
)
from cf_local.evaluation.walk import Word, check_variant
from cf_local.evaluation.word_marks import WordMarks
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.testing import END, PieceVocabulary, ScriptedSource, writes
from cf_local.types import SCORES, Candidate, RawText, Score, Step

PROMPT = RawText("How many?")
SETTINGS = walk_settings(Settings())
TEXT = "the fox is 24."


def item(reference: str, name: str = "a", group: str = "") -> Item:
    return Item(name, PROMPT, (reference,), group)


def walk_of(sources: list[ScriptedSource], reference: str) -> Walk:
    with Fusion(sources) as fusion:
        (found,) = walks(fusion, [item(reference)], SETTINGS)
    return found


def rights(source: ScriptedSource, reference: str) -> str:
    """A letter per word of the reference: R if the source would write it."""
    return "".join("-R"[word.right[word.drafts[0]]] for word in walk_of([source], reference).words)


def one_of(pieces: list[str], text: str) -> ScriptedSource:
    vocabulary = PieceVocabulary(pieces)
    return ScriptedSource("ada", vocabulary, writes(text, vocabulary))


# ---- What is right -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("the fox is 24.", "RRRRR"),
        ("the fox", "R-"),  # it goes on where the text ends
        ("the fox is 24. The end", "RRRR---"),  # it ends where the text goes on
        ("the cat is 24.", "R-RRR"),  # whatever was chosen, the text goes on
        ("the foxy is 24.", "R----"),  # " fox" is not " foxy" (and later places differ)
        ("the fo", "R-"),
    ],
)
def test_right_is_the_next_word_and_the_end_with_the_last(reference: str, found: str) -> None:
    assert rights(one_of([], TEXT), reference) == found


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("so it is 24 then", "RRRRR"),
        ("so it is 245 then", "RR---"),  # " is 24" ends inside a word
        ("so it is 2", "RR--"),
        ("so it is 24", "RR--"),  # it goes on
    ],
)
def test_a_segment_of_several_words_is_right_if_all_are(reference: str, found: str) -> None:
    source = one_of([" is 24"], "so it is 24 then")
    assert rights(source, reference) == found


def test_everybody_is_asked_what_they_think_of_the_next_word() -> None:
    vocabulary = VOCABULARIES[0]
    says = {"": {" fox": 0.5, " the": 0.25}, " the": {END: 0.75}}
    ada = ScriptedSource("ada", vocabulary, table(vocabulary, says))
    says = {"": {" fox": 0.5}, " fox": {".": 0.25, " is": 0.5}}
    bob, again = (ScriptedSource("bob", vocabulary, table(vocabulary, says)) for _ in range(2))
    first, *_ = walk_of([ada, bob], " the").words
    assert first.candidates == (Candidate(b" fox", True), Candidate(b" fox", False))
    assert first.right == (False, False)
    nats = [score.nll_nats for score in first.next_scores]
    assert nats == pytest.approx([-math.log(0.25 * 0.75), -2 * math.log(1e-6)], rel=0.5)
    assert nats[0] == pytest.approx(-math.log(0.25 * 0.75))
    # Within a text, the end of the word counts and not that of the answer.
    first, _ = walk_of([again], " fox.").words
    (score,) = first.next_scores
    assert first.scores == ()  # nothing to decide
    assert (score.nll_nats, score.word_end_nats) == pytest.approx((-math.log(0.5), -math.log(0.75)))


def shown(text: str) -> str:
    """Without parts of characters, which an answer shows when they are whole."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "")


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("weights", ["equal", {"b": 3.0, "c": 0.5}])
def test_what_a_walk_says_is_what_the_fusion_writes(kind: str, weights: object) -> None:
    text = " the fox is 24.\n\nThen running, 東京 68"
    sources = [
        ScriptedSource(name, vocabulary, agreeing(vocabulary, text, seed, own=0.2))
        for seed, (name, vocabulary) in enumerate(zip("abc", VOCABULARIES, strict=True))
    ]
    settings = replace(SETTINGS, score=kind, weights=weights)
    with Fusion(sources) as fusion:
        (walked,) = walks(fusion, [item(text)], settings)
        marks = WordMarks([walked], [source.info for source in sources])
        b_alone = replace(settings, mode="single", only="b")
        chosen = marks.texts(Variant("cool", settings))
        alone = marks.texts(Variant("b", b_alone))
        written = ""
        words = [" the", " fox", " is", " 24", ".", "\n\nThen", " running", ",", " 東", "京", " 68"]
        for word, fused, own in zip(words, chosen, alone, strict=True):
            with fusion.stream(PROMPT, settings, prefix=written) as events:
                step = next(iter(events))
            assert isinstance(step, Step)
            assert shown(fused) == shown(step.text) + "␃" * step.ends
            with fusion.stream(PROMPT, b_alone, prefix=written) as events:
                step = next(iter(events))
            assert isinstance(step, Step)
            assert shown(own).startswith(
                shown(step.text)
            )  # alone, it need not agree on where words end
            written += word
    assert len({len(word.candidates) for word in walked.words}) > 1


# ---- What does not fit, and what is interrupted --------------------------------------------------


def test_a_prompt_that_does_not_fit_leaves_no_words() -> None:
    source = ScriptedSource("ada", VOCABULARIES[2], writes("x", VOCABULARIES[2]), n_ctx=9)
    assert walk_of([source], "the fox") == Walk("a", 2, ())


def test_a_text_is_read_as_far_as_the_context_goes() -> None:
    text = "the fox is " + "24 " * 60 + "68"
    source = ScriptedSource("ada", VOCABULARIES[2], writes(text, VOCABULARIES[2]), n_ctx=40)
    found = walk_of([source], text)
    assert 10 < len(found.words) < found.n_words == 64
    (word,) = found.words[:1]
    assert word.right[word.drafts[0]]


def test_cancelled_walks_are_not_kept() -> None:
    store, stops = WalkStore(), False
    source = one_of([], TEXT)
    with Fusion([source]) as fusion:
        running = walks(
            fusion, [item(TEXT, "a"), item(TEXT, "b")], SETTINGS, store, is_cancelled=lambda: stops
        )
        assert next(running).item == "a"
        stops = True
        with pytest.raises(Cancelled):
            next(running)
        assert list(store.walks) == ["a"]
        n_before = source.sessions[0].counters.n_passes
        assert next(walks(fusion, [item(TEXT, "a")], SETTINGS, store)) is store.walks["a"]
        assert source.sessions[0].counters.n_passes == n_before


def test_cancelled_within_a_text() -> None:
    n_asked = 0

    def is_cancelled() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > 5

    with Fusion([one_of([], TEXT)]) as fusion, pytest.raises(Cancelled):
        list(walks(fusion, [item(TEXT)], SETTINGS, is_cancelled=is_cancelled))


# ---- Settings and variants -----------------------------------------------------------------------


def test_what_plays_no_part_is_left_out() -> None:
    given = Settings(
        mode="rerank",
        score="nll",
        weights={"ada": 2.0},
        segments="shortest",
        segment_limit=9,
        max_tokens=7,
        stop=("x",),
        sampling=Sampling(0.7),
    )
    assert walk_settings(given) == Settings(
        score="nll", weights={"ada": 2.0}, segments="shortest", segment_limit=9
    )
    with pytest.raises(InputError, match="not sentences"):
        walk_settings(Settings(segments="sentence"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rerank", "mode rerank cannot be measured"),
        ("cool+r", "mode cool+r cannot"),
        ("cool segments=shortest", "segments cannot"),
        ("cool segment_words=2 segment_limit=5", "segment_words, segment_limit cannot"),
        ("cool temperature=0.5", "temperature cannot"),
        ("single", "name the source"),
    ],
)
def test_variants_that_another_walk_would_need(text: str, part: str) -> None:
    assert part in refusal(text)


def refusal(text: str) -> str:
    """What is said of a variant that the walk cannot serve; nothing of another."""
    try:
        check_variant(parse_variant(text, SETTINGS, ("ada", "bob", "cy")), SETTINGS)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "text",
    [
        "cool",
        "cool score=nll weights=equal",
        "cool sources=ada,bob weight.ada=2",
        "single only=bob",
    ],
)
def test_variants_that_one_walk_serves(text: str) -> None:
    assert refusal(text) == ""


# ---- In a folder ---------------------------------------------------------------------------------


def test_a_folder_keeps_walks_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"prompt": "?", "reference": "the fox is 24."}\n')
    task = ReferenceFile(tmp_path / "r.jsonl")
    items, folder = task.items(), tmp_path / "run"
    with Fusion([writer_of("ada", TEXT), writer_of("bob", "the 東京")]) as fusion:
        record = record_of_walks(record_of(fusion.sources, task, items, []), SETTINGS)
        with WalkFolder(folder, record, items, resume=False) as store:
            (walked,) = walks(fusion, items, SETTINGS, store)
        odd = Word(
            (Candidate(b"\xff\xfe \n", False), Candidate("é".encode(), True)),
            (0, 1),
            (False, True),
            ((Score(math.inf, 1), Score(1 / 3, 2, 0.1)), (Score(0.25, 1), Score(2.0, 1))),
            (Score(math.inf, 1), Score(0.0, 1)),
        )
        with WalkFolder(folder, record, items, resume=True) as store:
            assert store.walks == {"1": walked}
            store.append(Walk("2", 1, (odd,)))
        with (folder / "walks.jsonl").open("ab") as file:
            file.write(b'{"item": "3", "n_w')
        with WalkFolder(folder, record, items, resume=True) as store:
            assert store.walks == {"1": walked, "2": Walk("2", 1, (odd,))}
            assert store.n_dropped == 1
        other = record_of_walks(record, replace(SETTINGS, segments="shortest"))
        with pytest.raises(InputError, match="segments is"):
            WalkFolder(folder, other, items, resume=True)
        (folder / "walks.jsonl").write_text('{"item": "1"}\n')
        with pytest.raises(InputError, match="not a walk that this version wrote"):
            WalkFolder(folder, record, items, resume=True)

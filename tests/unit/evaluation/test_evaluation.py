"""Running, remembering and summing up an evaluation, on scripted sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import VOCABULARIES, writer_of

from cf_local.errors import Cancelled, InputError
from cf_local.evaluation import (
    FolderStore,
    Item,
    Result,
    Store,
    Task,
    Variant,
    checked_items,
    default_variants,
    record_of,
    run,
    settings_for,
    summarize,
    with_system,
)
from cf_local.evaluation.answer_metrics import METRICS
from cf_local.evaluation.statistics import mcnemar, wilson
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.testing import ScriptedSource, writes
from cf_local.types import FUSED, Chat, Message, RawText, chat

NAMES = ("ada", "bob", "cy")
TEXTS = ("the fox is 24.", "the fox is 24.", "the fox is 68.")


class Numbers(Task):
    """Half of the questions want 24, half of them 68."""

    name = "numbers"
    max_tokens = 32

    def __init__(self, n: int = 4) -> None:
        self.n = n

    def items(self) -> Sequence[Item]:
        return [
            Item(f"q{i}", RawText(f"Question {i}?"), ("24", "68")[i % 2], ("even", "odd")[i % 2])
            for i in range(self.n)
        ]

    def is_right(self, item: Item, text: str) -> float:
        return METRICS["number"](text, item.accepted)


class Counting(Fusion):
    """Counts the answers it is asked for, and cancels after some."""

    n_asked = 0
    last: int | None = None

    def stream(self, *arguments, **named):  # type: ignore[no-untyped-def]
        self.n_asked += 1
        events = super().stream(*arguments, **named)
        if self.n_asked == self.last:
            self.cancel()
        return events


@pytest.fixture
def fusion() -> Iterator[Counting]:
    with Counting([writer_of(n, t) for n, t in zip(NAMES, TEXTS, strict=True)]) as opened:
        yield opened


VARIANTS = default_variants(Settings(max_tokens=32), NAMES)
TASK = Numbers()
ITEMS = checked_items(TASK)


def open_store(
    fusion: Fusion,
    folder: Path,
    *,
    resume: bool = False,
    variants: Sequence[Variant] = VARIANTS,
    items: Sequence[Item] = ITEMS,
) -> FolderStore:
    record = record_of(fusion.sources, TASK, items, variants)
    return FolderStore(folder, record, items, resume=resume)


def test_every_item_is_answered_by_every_variant(fusion: Counting) -> None:
    results = list(run(fusion, TASK, ITEMS, VARIANTS))
    assert [(r.item, r.variant) for r in results] == [
        (item.id, variant.name) for item in ITEMS for variant in VARIANTS
    ]
    ada, bob, cy, rerank, cool, _ = results[:6]
    assert (ada.text, cy.text, cool.text) == (TEXTS[0], TEXTS[2], TEXTS[0])
    assert [r.right for r in results[:6]] == [1, 1, 0, 1, 1, 1]
    assert [r.right for r in results[6:12]] == [0, 0, 1, 0, 0, 0]
    assert (cool.group, cool.finish_reason, cool.n_bytes) == ("even", "stop", len(TEXTS[0]))
    assert ada.wins == {}
    assert rerank.wins == {"ada": 1, "bob": 1}
    assert cool.wins == {}  # ada and bob agree, so cy is not asked
    assert rerank.chosen == "ada"
    assert bob.chosen == "bob"
    assert fusion.n_asked == len(results)


def test_with_all_sources_asked_all_disputes_are_known(fusion: Counting) -> None:
    cool = Variant("cool", Settings(max_tokens=32, all_scores=True))
    (found,) = run(fusion, TASK, ITEMS[:1], [cool])
    assert found.wins == {"ada": 1, "bob": 1}  # the one segment that was disputed


def test_the_whole_answer_is_what_is_won_in_cool_r(fusion: Counting) -> None:
    (cool_r,) = run(fusion, TASK, ITEMS[:1], VARIANTS[-1:])
    assert cool_r.wins == {"ada": 1, "bob": 1, FUSED: 1}


def test_some_of_the_sources_answer_and_the_record_says_so(fusion: Counting) -> None:
    part = Variant("cool sources=cy,bob", Settings(max_tokens=32), ("cy", "bob"))
    whole = Variant("cool", part.settings)
    two, three = run(fusion, TASK, ITEMS[1:2], [part, whole])
    assert (two.text, three.text) == (TEXTS[2], TEXTS[0])  # a tie goes to the first
    assert set(two.wins) == {"cy"}
    variants = record_of(fusion.sources, TASK, ITEMS, [part, whole])["variants"]
    assert variants[part.name]["sources"] == ("cy", "bob")
    assert "sources" not in variants["cool"]


def test_a_prompt_that_does_not_fit_is_wrong_and_the_run_goes_on() -> None:
    small = ScriptedSource("ada", VOCABULARIES[2], writes("the 24", VOCABULARIES[2]), n_ctx=30)
    items = [Item("long", RawText("x" * 40), "24"), Item("short", RawText("x"), "24")]
    with Fusion([small]) as fusion:
        long, short = run(fusion, TASK, items, [Variant("cool", Settings(max_tokens=9))])
    assert (long.finish_reason, long.right, long.text) == ("context", 0, "")
    assert (short.finish_reason, short.right) == ("stop", 1)
    summary = summarize("t", [Variant("cool", Settings())], [long, short])
    assert summary is not None
    assert (summary.rows[0].n_no_room, summary.rows[0].n_cut) == (1, 0)


@pytest.mark.parametrize("verdict", [-0.1, 1.1, float("nan")])
def test_a_verdict_out_of_range_is_an_error(fusion: Counting, verdict: float) -> None:
    class Odd(Numbers):
        def is_right(self, item: Item, text: str) -> float:
            return verdict

    with pytest.raises(InputError, match="judged question 'q0' with"):
        list(run(fusion, Odd(), ITEMS, VARIANTS))


def test_no_questions_and_equal_ids_are_errors() -> None:
    with pytest.raises(InputError, match="has no questions"):
        checked_items(Numbers(0))

    class Same(Numbers):
        def items(self) -> Sequence[Item]:
            return [Item("a", RawText("?"), "1"), Item("a", RawText("!"), "1")]

    with pytest.raises(InputError, match="have the id 'a'"):
        checked_items(Same())


def test_system_text_comes_first() -> None:
    item = with_system(Item("a", Chat((Message("system", "x"), Message("user", "u"))), "1"), "s")
    assert item.prompt == chat("u", system="s")
    with pytest.raises(InputError, match="Raw prompts"):
        with_system(Item("a", RawText("u"), "1"), "s")


def test_settings_for_a_task() -> None:
    class Stopping(Numbers):
        stop = ("Q:", "\n")

    base = Settings(stop=("\n",), score="nll")
    assert settings_for(Stopping(), base) == replace(base, stop=("\n", "Q:"), max_tokens=32)
    assert settings_for(TASK, base, max_tokens=5).max_tokens == 5


# ---- Stopping and going on -----------------------------------------------------------------------


def test_a_cancelled_run_goes_on_where_it_stopped(fusion: Counting, tmp_path: Path) -> None:
    fusion.last = 9
    with open_store(fusion, tmp_path) as store, pytest.raises(Cancelled):
        list(run(fusion, TASK, ITEMS, VARIANTS, store))
    assert len(store.results) == 8
    with open_store(fusion, tmp_path, resume=True) as store:
        assert len(store.results) == 8
        results = list(run(fusion, TASK, ITEMS, VARIANTS, store))
    assert len(results) == 24
    assert fusion.n_asked == 9 + 16  # only the cancelled answer was begun twice
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [r.text for r in results]
    with Fusion([writer_of(n, t) for n, t in zip(NAMES, TEXTS, strict=True)]) as other:
        at_once = list(run(other, TASK, ITEMS, VARIANTS))
    timeless = [replace(r, seconds=0, prompt_seconds=0) for r in results]
    assert timeless == [replace(r, seconds=0, prompt_seconds=0) for r in at_once]


def test_a_run_is_cancelled_between_answers(fusion: Counting) -> None:
    store = Store()
    with pytest.raises(Cancelled):
        list(run(fusion, TASK, ITEMS, VARIANTS, store, is_cancelled=lambda: fusion.n_asked == 5))
    assert len(store.results) == 5


def test_a_torn_last_line_is_dropped(fusion: Counting, tmp_path: Path) -> None:
    with open_store(fusion, tmp_path) as store:
        list(run(fusion, TASK, ITEMS[:2], VARIANTS, store))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with open_store(fusion, tmp_path, resume=True) as store:
        assert store.n_dropped == 1
        assert len(store.results) == 11
        list(run(fusion, TASK, ITEMS[:2], VARIANTS, store))
    assert len(path.read_bytes().splitlines()) == 12
    assert path.read_bytes().startswith(whole[: whole.rindex(b"\n", 0, -30) + 1])


def test_a_line_is_in_the_file_before_the_next_answer(fusion: Counting, tmp_path: Path) -> None:
    with open_store(fusion, tmp_path) as store:
        for n_done, _ in enumerate(run(fusion, TASK, ITEMS, VARIANTS, store), start=1):
            assert (tmp_path / "results.jsonl").read_bytes().count(b"\n") == n_done


def test_a_broken_line_in_the_middle_is_an_error(fusion: Counting, tmp_path: Path) -> None:
    with open_store(fusion, tmp_path) as store:
        list(run(fusion, TASK, ITEMS, VARIANTS, store))
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{}\n", *lines[3:]]))
    with pytest.raises(InputError, match=r"results\.jsonl, line 3: this is not a result"):
        open_store(fusion, tmp_path, resume=True)
    path.write_text("".join([*lines[:2], "{\n", *lines[3:]]))
    with pytest.raises(InputError, match=r"results\.jsonl, line 3: this is not JSON"):
        open_store(fusion, tmp_path, resume=True)


def test_a_folder_with_a_run_is_not_written_over(fusion: Counting, tmp_path: Path) -> None:
    open_store(fusion, tmp_path / "a").close()
    with pytest.raises(InputError, match="already holds an evaluation"):
        open_store(fusion, tmp_path / "a")
    with open_store(fusion, tmp_path / "new", resume=True) as store:
        assert store.results == {}


def test_other_settings_questions_or_models_are_refused(fusion: Counting, tmp_path: Path) -> None:
    open_store(fusion, tmp_path).close()
    longer = default_variants(Settings(max_tokens=33), NAMES)
    with pytest.raises(InputError, match="variants ada max_tokens is 32 there and 33 here"):
        open_store(fusion, tmp_path, resume=True, variants=longer)
    with pytest.raises(InputError, match=r"cool\+r is .* there and missing here"):
        open_store(fusion, tmp_path, resume=True, variants=VARIANTS[:-1])
    with pytest.raises(InputError, match="n_questions is 4 there and 3 here"):
        open_store(fusion, tmp_path, resume=True, items=ITEMS[:3])
    changed = [replace(ITEMS[0], answer="25"), *ITEMS[1:]]
    with pytest.raises(InputError, match="questions_sha256"):
        open_store(fusion, tmp_path, resume=True, items=changed)
    with (
        Fusion([writer_of(name, "a") for name in ("ada", "bob", "eve")]) as other,
        pytest.raises(InputError, match='models 3 name is "cy" there and "eve" here'),
    ):
        open_store(other, tmp_path, resume=True)


def test_another_file_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    def record() -> dict[str, object]:
        source = writer_of("ada", "a")
        source.info = replace(source.info, file=str(tmp_path / "m.gguf"))
        return record_of([source], TASK, ITEMS, VARIANTS)

    (tmp_path / "m.gguf").write_bytes(b"one")
    before = record()
    assert before["models"][0]["size_bytes"] == 3  # type: ignore[index]
    FolderStore(tmp_path / "run", before, ITEMS, resume=False).close()
    (tmp_path / "m.gguf").write_bytes(b"another")
    with pytest.raises(InputError, match="models 1 size_bytes is 3 there and 7 here"):
        FolderStore(tmp_path / "run", record(), ITEMS, resume=True)


def test_a_folder_that_cannot_be_used(fusion: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used for results"):
        open_store(fusion, tmp_path / "file")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        open_store(fusion, tmp_path, resume=True)


# ---- Summing up ----------------------------------------------------------------------------------


def result(variant: str, item: int, right: float, **more: object) -> Result:
    basic = Result(str(item), "", variant, right, "text", "stop", 2.0, 1.0, 4, variant, {})
    return replace(basic, **more)  # type: ignore[arg-type]


def test_the_summary_compares_with_the_best_source_alone() -> None:
    alone = {"ada": [1, 0, 0, 0], "bob": [1, 1, 0, 0], "cy": [0, 0, 1, 1]}
    marks = alone | {"rerank": [0, 1, 1, 0], "cool": [1, 1, 1, 1], "cool+r": [0, 0, 0, 0]}
    results = [result(name, i, mark) for name, row in marks.items() for i, mark in enumerate(row)]
    summary = summarize("numbers", VARIANTS, results)
    assert summary is not None
    assert (summary.n_items, summary.best_alone) == (4, "bob")  # a tie goes to the first
    rows = {row.variant: row for row in summary.rows}
    assert list(rows) == [variant.name for variant in VARIANTS]
    assert rows["bob"].versus is None
    versus = rows["cool"].versus
    assert versus is not None
    assert (versus.won, versus.lost, versus.p_value) == (2, 0, mcnemar(2, 0))
    assert (rows["rerank"].versus.won, rows["rerank"].versus.lost) == (1, 1)  # type: ignore[union-attr]
    share = rows["ada"].accuracy
    assert (share.n, share.value, (share.low, share.high)) == (4, 0.25, wilson(1, 4))
    assert rows["ada"].bytes_per_s == 2


def test_only_items_that_all_have_answered_count() -> None:
    pair = [Variant("a", Settings(mode="single")), Variant("b", Settings())]
    found = [result("a", 1, 1), result("b", 1, 1), result("a", 2, 1)]
    summary = summarize("t", pair, found)
    assert summary is not None
    assert summary.n_items == 1
    assert summarize("t", pair, found[2:]) is None
    assert summarize("t", pair, []) is None


def test_groups_wins_and_cut_answers_are_counted() -> None:
    found = [
        result("a", 1, 1, group="x", wins={"ada": 2}),
        result("a", 2, 0, group="y", wins={"ada": 1, "bob": 1}, finish_reason="length"),
        result("a", 3, 0.5, group="y", finish_reason="repetition"),
    ]
    summary = summarize("t", [Variant("a", Settings())], found)
    assert summary is not None
    (row,) = summary.rows
    assert summary.best_alone is None
    assert row.versus is None
    assert {name: (s.n, s.value) for name, s in row.groups.items()} == {"x": (1, 1), "y": (2, 0.25)}
    assert row.wins == {"ada": 3, "bob": 1}
    assert (row.n_cut, row.n_no_room) == (2, 0)

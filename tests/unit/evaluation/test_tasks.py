"""Where questions come from: the built-in ones, files, data sets and Python classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from cf_local.builtin.problems import generate
from cf_local.errors import InputError
from cf_local.evaluation import Item, TaskOptions, checked_items, chosen, open_task
from cf_local.evaluation.tasks.mgsm import LANGUAGES
from cf_local.types import Chat, Message, RawText, chat, text_of


def jsonl(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return str(path)


# ---- Built in ------------------------------------------------------------------------------------


def test_builtin_problems_are_those_of_the_test_split() -> None:
    task = open_task("builtin", TaskOptions(n_items=30, seed=5))
    items = checked_items(task)
    problems = generate(30, seed=5, split="test")
    assert [item.prompt for item in items] == [chat(p.question) for p in problems]
    assert {item.group for item in items} <= {"add", "sub", "mul", "units", "div", "percent"} | {
        "two skills"
    }
    for item, problem in zip(items, problems, strict=True):
        assert task.is_right(item, problem.answer)
        assert not task.is_right(item, f"It is {problem.result + 1}.")
        assert not task.is_right(item, "")


def test_another_seed_draws_other_problems() -> None:
    one, two = (
        checked_items(open_task("builtin", TaskOptions(n_items=20, seed=seed))) for seed in (1, 2)
    )
    assert len(one) == len(two) == 20
    assert {item.prompt for item in one} != {item.prompt for item in two}


# ---- Files of questions --------------------------------------------------------------------------


def test_a_jsonl_file(tmp_path: Path) -> None:
    name = jsonl(
        tmp_path / "q.jsonl",
        {"prompt": "Capital of France? 👍🏽", "answer": ["Paris", "Lutetia"], "group": "geo"},
        {"prompt": "7 * 8?", "answer": 56, "id": "mul", "_source": "me"},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2 or 3?"},
            ],
            "answer": "B",
            "metric": "choice",
        },
    )
    task = open_task(name)
    first, second, third = checked_items(task)
    assert [item.id for item in (first, second, third)] == ["1", "mul", "3"]
    assert (first.accepted, first.group, first.prompt) == (
        ("Paris", "Lutetia"),
        "geo",
        chat("Capital of France? 👍🏽"),
    )
    assert third.prompt == Chat((Message("system", "Be brief."), Message("user", "2 or 3?")))
    assert task.is_right(first, "Lutetia.")
    assert not task.is_right(first, "It is Paris")  # exact
    assert task.is_right(second, "It is 56")  # number
    assert task.is_right(third, "The answer is (B).")


def test_the_metric_of_the_command_line_is_for_lines_without_one(tmp_path: Path) -> None:
    name = jsonl(
        tmp_path / "q.jsonl",
        {"prompt": "?", "answer": "Paris"},
        {"prompt": "?", "answer": "Paris", "metric": "exact"},
    )
    task = open_task(name, TaskOptions(metric="contains"))
    first, second = checked_items(task)
    assert task.is_right(first, "It is Paris")
    assert not task.is_right(second, "It is Paris")


@pytest.mark.parametrize(("suffix", "tab"), [("csv", ","), ("tsv", "\t")])
def test_a_table(tmp_path: Path, suffix: str, tab: str) -> None:
    path = tmp_path / f"q.{suffix}"
    rows = [
        ["prompt", "answer", "group", "metric"],
        ['"Two\nlines?"', "yes", "a", ""],
        ["7 * 8?", "56", "", "number"],
        ["?", '"[""a"", ""b""]"', "", ""],
    ]
    path.write_text("\ufeff" + "\r\n".join(tab.join(row) for row in rows) + "\r\n", "utf-8")
    task = open_task(str(path))
    first, second, third = checked_items(task)
    assert text_of(first.prompt) == "Two\nlines?"
    assert (first.group, second.group) == ("a", "")
    assert task.is_right(second, "56.0")
    assert third.accepted == ("a", "b")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "this is not JSON"),
        ("[1]", "this is not a JSON object"),
        (r'{"prompt": "\ud83d", "answer": "x"}', "half a character"),
        ('{"prompt": "?"}', "the answer is missing"),
        ('{"answer": "x"}', "either a prompt or messages"),
        ('{"prompt": "?", "messages": [], "answer": "x"}', "either a prompt or messages"),
        ('{"prompt": " ", "answer": "x"}', "the prompt must be text"),
        ('{"prompt": "?", "answer": true}', "the answer must be text, a number or a list"),
        ('{"prompt": "?", "answer": []}', "the answer must be text, a number or a list"),
        ('{"prompt": "?", "anwser": "x"}', "did you mean 'answer'?"),
        ('{"prompt": "?", "answer": "x", "metric": "exakt"}', "did you mean 'exact'?"),
        ('{"prompt": "?", "answer": "x", "metric": "number"}', "'x' contains no number"),
        ('{"prompt": "?", "answer": "x", "group": []}', "group must be text"),
        ('{"prompt": "?", "answer": "x", "id": "1"}', "the id '1' occurs before"),
        ('{"messages": "?", "answer": "x"}', "messages must be a list"),
        ('{"messages": [{"role": "user"}], "answer": "x"}', "must have role and content"),
        ('{"messages": [{"role": "me", "content": ""}], "answer": "x"}', "needs a role"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "?", "answer": "x"}\n\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        open_task(str(path))
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("prompt,answr\n?,x\n", "line 1: unknown key 'answr' (did you mean 'answer'?)"),
        ("prompt,answer\n?,x\n?\n", "line 3: 1 cells for 2 columns"),
        ('prompt,answer\n?,"x\n', "line 2: unexpected end of data"),
        ("prompt,answer\n?,[x\n", "line 2: the answer '[x' looks like a JSON list"),
        ("prompt,answer\n?,\n", "line 2: the answer is missing"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        open_task(str(path))
    assert f"{path}, {part}" in str(caught.value)


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    path, text = tmp_path / "long.csv", "word " * 40_000
    path.write_text(f"prompt,answer\n{text.strip()},yes\n")
    (item,) = checked_items(open_task(str(path)))
    assert text_of(item.prompt) == text.strip()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: No such file"):
        open_task(str(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'\n{"prompt": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"latin\.jsonl, line 2: this is not UTF-8"):
        open_task(str(tmp_path / "latin.jsonl"))
    (tmp_path / "empty.csv").write_text("prompt,answer\n")
    with pytest.raises(InputError, match="has no questions"):
        checked_items(open_task(str(tmp_path / "empty.csv")))


# ---- Files of reference texts --------------------------------------------------------------------


def test_a_file_of_references(tmp_path: Path) -> None:
    name = jsonl(
        tmp_path / "r.jsonl",
        {"prompt": "Say hello.", "reference": "Hello there!\n", "group": "polite"},
        {
            "messages": [{"role": "user", "content": "Bye?"}],
            "reference": "Bye.",
            "id": "b",
            "_x": 1,
        },
    )
    task = open_task(f"references:{name}")
    first, second = checked_items(task)
    assert (task.name, first.id, second.id) == ("r.jsonl", "1", "b")
    assert first == Item("1", chat("Say hello."), ("Hello there!",), "polite")
    assert second.prompt == Chat((Message("user", "Bye?"),))
    assert task.is_right(first, "Hello there! ")
    assert not task.is_right(first, "Hello!")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "this is not JSON"),
        ('{"prompt": "?"}', "the reference is missing"),
        ('{"prompt": "?", "reference": " "}', "the reference must be text"),
        ('{"prompt": "?", "reference": ["a"]}', "the reference must be text"),
        ('{"reference": "x"}', "either a prompt or messages"),
        ('{"prompt": "?", "refrence": "x"}', "did you mean 'reference'?"),
        ('{"prompt": "?", "reference": "x", "answer": "y"}', "unknown key 'answer'"),
        ('{"prompt": "?", "reference": "x", "metric": "exact"}', "unknown key 'metric'"),
        ('{"prompt": "?", "reference": "x", "group": []}', "group must be text"),
        ('{"prompt": "?", "reference": "x", "id": "1"}', "the id '1' occurs before"),
    ],
)
def test_a_wrong_reference_is_named(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"prompt": "?", "reference": "x"}\n\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        open_task(f"references:{path}")
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert part in str(caught.value)


# ---- Data sets -----------------------------------------------------------------------------------


def test_gsm8k_from_a_file(tmp_path: Path) -> None:
    name = jsonl(tmp_path / "t.jsonl", {"question": "6 * 7?", "answer": "It is\n#### 1,042"})
    task = open_task(f"gsm8k:{name}")
    (item,) = checked_items(task)
    assert task.is_right(item, "So she pays $1,042.")
    strict = open_task(f"gsm8k:{name}", TaskOptions(metric="strict"))
    assert not strict.is_right(item, "So she pays $1,042.")
    assert strict.is_right(item, "The answer is 1042.")
    hashes = open_task(f"gsm8k:{name}", TaskOptions(metric="hashes", n_examples=0, raw=True))
    assert hashes.is_right(item, "#### 1042")
    assert checked_items(hashes)[0].prompt == RawText("Q: 6 * 7?\nA:")


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ({"question": "?"}, "question and answer are required, both as text"),
        ({"question": "?", "answer": "42"}, "must end with ####"),
    ],
)
def test_gsm8k_lines_that_are_wrong(tmp_path: Path, record: dict[str, str], part: str) -> None:
    name = jsonl(tmp_path / "t.jsonl", record)
    with pytest.raises(InputError, match=rf"t\.jsonl, line 1: .*{part}"):
        open_task(f"gsm8k:{name}")


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k:", "gsm8k:test.parquet"])
def test_gsm8k_says_how_to_get_the_file(name: str) -> None:
    with pytest.raises(InputError, match=r"only Parquet.*cf-local eval gsm8k:test\.jsonl"):
        open_task(name)


EXEMPLARS = """
raise SystemExit("this file must not be run")
EXEMPLAR_NUMBER_ANSWERS = [11, 29]
MGSM_EXEMPLARS = {"de": {
    "1": {"q": "Frage: Wie " "viele?", "a": "Schritt-für-Schritt-Antwort: Die Antwort lautet 11."},
    "2": {"q": "Frage: Und?", "a": "Schritt-für-Schritt-Antwort: Die Antwort lautet 29."},
}}
"""


def write_mgsm(folder: Path) -> Path:
    (folder / "exemplars.py").write_text(EXEMPLARS, encoding="utf-8")
    path = folder / "mgsm_de.tsv"
    path.write_text('Eine "Frage"?\t1,042\nNoch eine?\t-7\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "examples", "question"),
    [
        (
            "mgsm",
            "Frage: Wie viele?\nSchritt-für-Schritt-Antwort: Die Antwort lautet 11.",
            'Frage: Eine "Frage"?\nSchritt-für-Schritt-Antwort:',
        ),
        (
            "mgsm-en-cot",
            "Frage: Wie viele?\nStep-by-Step Answer: Die Antwort lautet 11.",
            'Frage: Eine "Frage"?\nStep-by-Step Answer:',
        ),
        ("mgsm-direct", "Frage: Wie viele?\nAntwort:11", 'Frage: Eine "Frage"?\nAntwort:'),
    ],
)
def test_mgsm_from_a_file(tmp_path: Path, kind: str, examples: str, question: str) -> None:
    path = write_mgsm(tmp_path)
    task = open_task(f"{kind}:de:{path}", TaskOptions(n_examples=1, raw=True))
    first, second = checked_items(task)
    assert first.prompt == RawText(f"{examples}\n\n{question}")
    assert (first.accepted, second.accepted) == (("1042",), ("-7",))
    assert task.is_right(first, "Es sind 1,042")


def test_mgsm_files_that_are_wrong(tmp_path: Path) -> None:
    path = write_mgsm(tmp_path)
    with pytest.raises(InputError, match="does not hold 8 examples for 'de'"):
        open_task(f"mgsm:de:{path}")
    (tmp_path / "exemplars.py").write_text("MGSM_EXEMPLARS = open('x')")
    with pytest.raises(InputError, match=r"exemplars\.py cannot be read"):
        open_task(f"mgsm:de:{path}")
    (tmp_path / "exemplars.py").unlink()
    with pytest.raises(InputError, match="is missing: it holds the worked examples"):
        open_task(f"mgsm:de:{path}")
    path.write_text("Eine Frage?\n")
    with pytest.raises(InputError, match=r"mgsm_de\.tsv, line 1: a question, a tab"):
        open_task(f"mgsm:de:{path}", TaskOptions(n_examples=0))
    with pytest.raises(InputError, match="MGSM has no language 'xx'"):
        open_task("mgsm:xx")
    with pytest.raises(InputError, match="mgsm has no metric 'exact'"):
        open_task(f"mgsm:de:{path}", TaskOptions(metric="exact"))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return folder


def test_mgsm_comes_from_the_hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mgsm(empty_cache)
    asked = []

    def download(repo: str, filename: str, *, repo_type: str) -> str:
        asked.append((repo, filename, repo_type))
        return str(empty_cache / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    items = checked_items(open_task("mgsm:de", TaskOptions(n_examples=2)))
    assert len(items) == 2
    assert sorted(asked) == [
        ("juletxara/mgsm", "exemplars.py", "dataset"),
        ("juletxara/mgsm", "mgsm_de.tsv", "dataset"),
    ]


def test_a_data_set_that_cannot_be_had(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise errors.LocalEntryNotFoundError("no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError, match=r"exemplars\.py of the data set juletxara/mgsm could not"):
        open_task("mgsm:de")
    with pytest.raises(InputError, match="is not on this machine, and cf-local is offline"):
        open_task("mgsm:de", TaskOptions(offline=True))


def test_every_language_has_different_labels() -> None:
    assert len({language.question for language in LANGUAGES.values()}) == len(LANGUAGES) == 11


# ---- Tasks in Python -----------------------------------------------------------------------------

CLASS = """
from cf_local import chat
from cf_local.evaluation import Item, Task

class Mine(Task):
    name = "mine"
    def items(self):
        return [Item("a", chat("Say yes."), "yes")]
    def is_right(self, item, text):
        return "yes" in text

made = Mine()

class Half:
    name = "half"
"""


@pytest.mark.parametrize("place", ["my_tasks_8231.py:Mine", "my_tasks_8231:Mine"])
def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "my_tasks_8231.py").write_text(CLASS)
    monkeypatch.chdir(tmp_path)
    task = open_task(place)
    (item,) = checked_items(task)
    assert (task.name, task.stop, task.max_tokens) == ("mine", (), 512)
    assert task.is_right(item, "yes!")
    assert open_task(place.replace("Mine", "made")).name == "mine"


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("nowhere.py:Mine", "There is no file nowhere.py"),
        ("nowhere_4711:Mine", "The module nowhere_4711 does not exist"),
        ("mine.py:mad", r"has no mad \(did you mean 'made'\?\)"),
        ("mine.py:Half", "is not a task: it lacks items, is_right, stop, max_tokens"),
    ],
)
def test_what_is_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, part: str
) -> None:
    (tmp_path / "mine.py").write_text(CLASS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=part):
        open_task(place)


def test_an_import_that_fails_inside_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more_1707.py").write_text("import nowhere_4711")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_4711"):
        open_task("needs_more_1707:Mine")


# ---- Names and choices ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("nonsense", TaskOptions(), "Unknown task 'nonsense'"),
        ("builtin", TaskOptions(metric="exact"), "--metric does not apply to builtin"),
        ("builtin", TaskOptions(raw=True), "--examples and --raw-prompts are for"),
        ("q.jsonl", TaskOptions(n_examples=1), "--examples and --raw-prompts are for"),
        ("q.jsonl", TaskOptions(metric="best"), "--metric: unknown metric 'best'"),
        ("references:", TaskOptions(), "Name the file with the texts"),
        ("references:r.jsonl", TaskOptions(metric="exact"), "--metric does not apply to ref"),
        ("references:r.jsonl", TaskOptions(raw=True), "--examples and --raw-prompts are for"),
        ("gsm8k:t.jsonl", TaskOptions(n_examples=9), "0 to 8 worked examples"),
        ("gsm8k:t.jsonl", TaskOptions(metric="f1"), "gsm8k has no metric 'f1'"),
    ],
)
def test_names_and_options_that_do_not_fit(name: str, options: TaskOptions, part: str) -> None:
    with pytest.raises(InputError, match=part):
        open_task(name, options)


def test_a_limit_takes_the_first_or_draws() -> None:
    items = checked_items(open_task("builtin", TaskOptions(n_items=50)))
    pick: Callable[..., list[str]] = lambda *how: [i.id for i in chosen(items, *how)]  # noqa: E731
    assert pick(None, None) == pick(50, 1) == pick(99, None) == [i.id for i in items]
    assert pick(3, None) == [i.id for i in items[:3]]
    drawn = pick(10, 1)
    assert drawn == pick(10, 1) == sorted(drawn, key=[i.id for i in items].index)
    assert drawn != pick(10, 2)
    assert len(set(drawn)) == 10

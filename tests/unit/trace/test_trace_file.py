"""A trace written and read again; files that somebody cut off, mistyped or made up."""

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answers import NAMES, agreed, disputed, traced, whole
from hypothesis import given
from hypothesis import strategies as st

from cf_local import trace
from cf_local.errors import InputError
from cf_local.trace import page
from cf_local.types import FUSED, Chat, Message, RawText

STEPS = [agreed("Tom has"), disputed(" 23", " 24"), agreed("\n“é 猫” ", ends=True)]
BOTH = [*STEPS, whole("x", "y", proposers=(("ash", FUSED), ("birch",)))]


def assert_kept(path: Path, *traces: trace.Trace) -> None:
    trace.write(path, traces)
    assert trace.read(path) == traces


@pytest.mark.parametrize("steps", [STEPS, BOTH, [], [whole("a", "b")], [agreed("", ends=True)]])
def test_what_is_written_is_read(tmp_path: Path, steps: Any) -> None:
    assert_kept(tmp_path / "t.jsonl", traced(steps))


def test_who_was_asked_is_written_and_older_traces_lack_it(tmp_path: Path) -> None:
    step = replace(disputed(" 23", " 24"), asked=("ash", "birch"))
    assert_kept(tmp_path / "t.jsonl", traced([step]))
    record = json.loads(trace.step_line(step, "cool"))
    assert record.pop("asked") == ["ash", "birch"]
    (found,) = trace.read_from(io.BytesIO(json.dumps(record).encode()), "older")
    assert found.steps == (replace(step, asked=()),)


def test_what_did_not_go_as_usual_is_written_and_older_traces_lack_it(tmp_path: Path) -> None:
    one = traced(STEPS)
    assert one.answer is not None
    assert "notices" not in trace.answer_line(one.answer, one.sources)
    told = replace(one.answer, notices=("ash on node b was lost.",))
    assert_kept(tmp_path / "t.jsonl", one, replace(one, answer=told))


def test_several_answers_lie_in_one_file(tmp_path: Path) -> None:
    cut_off = replace(traced(STEPS[:2]), answer=None)
    assert_kept(tmp_path / "t.jsonl", traced(STEPS), cut_off, traced(BOTH))


def test_prompts_of_both_kinds(tmp_path: Path) -> None:
    one = traced(STEPS)
    assert one.heading is not None
    for prompt in (RawText("Go on"), Chat((Message("system", "s"), Message("user", "u\u2028")))):
        assert_kept(tmp_path / "t.jsonl", replace(one, heading=replace(one.heading, prompt=prompt)))


def test_weights_of_sources_are_kept(tmp_path: Path) -> None:
    one = traced(STEPS)
    sources = tuple(replace(s, weight=w) for s, w in zip(one.sources, (1.0, 0.5, 0.0), strict=True))
    assert_kept(tmp_path / "t.jsonl", replace(one, sources=sources))


def test_an_impossible_candidate_has_infinite_scores(tmp_path: Path) -> None:
    step = disputed(" 23", " 24")
    lost = replace(step.candidates[1], scores={"ash": math.inf, "birch": 1.0}, mean=math.inf)
    one = traced([replace(step, candidates=(step.candidates[0], lost))])
    assert_kept(tmp_path / "t.jsonl", one)
    assert "Infinity" not in (tmp_path / "t.jsonl").read_text(encoding="utf-8")


def test_bare_output_of_ask_is_a_trace_without_a_heading(tmp_path: Path) -> None:
    one = traced(STEPS)
    lines = list(trace.lines(one))[1:]
    (found,) = trace.read_from(io.BytesIO("\n".join(lines).encode()), "pipe")
    assert found.heading is None
    assert found.steps == one.steps
    assert [s.sha256 for s in found.sources] == [s.sha256 for s in one.sources]
    assert found.answer is not None
    assert found.text == "Tom has 23\n“é 猫” "


def test_steps_without_an_end_name_their_sources() -> None:
    lines = list(trace.lines(traced(STEPS)))[1:-1]
    (found,) = trace.read_from(io.BytesIO("\n".join([*lines, ""]).encode()), "pipe")
    assert (found.answer, found.names) == (None, list(NAMES))


def test_a_last_line_that_was_cut_off_is_dropped() -> None:
    raw = "\n".join(trace.lines(traced(STEPS))).encode()
    for n_bytes in (1, 30, 200):
        (found,) = trace.read_from(io.BytesIO(raw[:-n_bytes]), "pipe")
        assert (found.steps, found.answer) == (tuple(STEPS), None)


def test_newer_fields_and_lines_are_passed_over() -> None:
    lines = [json.loads(line) for line in trace.lines(traced(STEPS))]
    for line in lines:
        line["new"] = {"x": [1]}
    lines[0]["sources"][0]["new"] = 1
    lines[1]["candidates"][0]["new"] = 1
    raw = b"\xef\xbb\xbf" + b"\r\n".join(
        json.dumps(line).encode() for line in ({"type": "later"}, *lines, {"type": "later"})
    )
    assert trace.read_from(io.BytesIO(raw), "pipe") == (traced(STEPS),)


def step_with(**changes: Any) -> str:
    line = json.loads(trace.step_line(disputed(" 23", " 24"), "cool"))
    line |= changes
    return json.dumps({key: value for key, value in line.items() if value is not ...})


CANDIDATE = {"text": "x", "ends": False, "sources": ["a"], "scores": {}, "mean": None}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("hello", "not JSON"),
        ("[1]", "a list must be an object"),
        ("3", "3 must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"type":"step","text":' + "9" * 5000 + "}", "number is too long"),
        ('"\\ud800"', "must be an object"),
        (step_with(text=...), "text is missing; it must be text"),
        (step_with(text=7), "text is 7; it must be text"),
        (step_with(text="y" * 9, ends="x" * 500), 'ends is "xxx'),
        (step_with(candidates={}), "candidates is an object; it must be a list"),
        (step_with(candidates=[3]), "candidates 1: 3 must be an object"),
        (step_with(candidates=[]), "winner is 0 of 0 candidates"),
        (step_with(winner=2), "winner is 2 of 2 candidates"),
        (step_with(winner=-1), "winner is -1"),
        (step_with(winner=True), "winner is true"),
        (step_with(winner=..., winners=["oak"]), "no candidate has the winners as its sources"),
        (step_with(candidates=[CANDIDATE | {"sources": [1]}]), "sources is a list"),
        (step_with(candidates=[CANDIDATE | {"scores": {"a": "1"}}]), 'scores: a is "1"'),
        (step_with(candidates=[CANDIDATE | {"mean": float("nan")}]), "mean is NaN"),
        (step_with(candidates=[CANDIDATE | {"mean": 10**400}]), "mean is 1000"),
        (step_with(passes={"a": 1.5}), "passes: a is 1.5; it must be a whole number"),
        (step_with(passes={"a": 10**30}), "passes: a is 1000"),
        (step_with(timings_s={"draft": -1}), "timings_s: draft is -1"),
        (step_with(timings_s={"draft": math.inf}), "draft is Infinity"),
        (step_with(timings_s=3), "timings_s: 3 must be an object"),
        ('{"type": "answer", "text": "", "mode": "hot", "finish_reason": "stop"}', "mode is"),
        ('{"type": "answer", "text": "", "finish_reason": ["x"]}', "finish_reason is a list"),
        ('{"type": "trace", "prompt": {"messages": [{"role": "user"}]}, "sources": []}', "content"),
        ('{"type": "trace", "sources": [{"name": "a", "weight": -1}]}', "sources 1: weight is -1"),
        ('{"type": "trace", "sources": []' + ', "settings": {"a":' * 1 + "[" * 50 + "]" * 50 + "}}",
         "settings are nested too deeply"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_with_its_place(line: str, told: str) -> None:
    raw = f"{step_with()}\n\n{line}\n".encode()
    with pytest.raises(InputError) as caught:
        trace.read_from(io.BytesIO(raw), "t.jsonl")
    message = str(caught.value)
    assert message.startswith("t.jsonl, line 3")
    assert told in message
    assert len(message) < 200


@pytest.mark.parametrize("raw", [b"", b"\n \n", b'{"type": "later"}\n', b"{}"])
def test_a_file_without_a_trace(raw: bytes) -> None:
    with pytest.raises(InputError, match=r"t\.jsonl is not a trace"):
        trace.read_from(io.BytesIO(raw), "t.jsonl")


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1: this is not UTF-8"):
        trace.read_from(io.BytesIO(b"\xff\xfe\n"), "t.jsonl")
    with pytest.raises(InputError, match="line 1: this is not"):
        trace.read_from(io.BytesIO(b"GGUF" + bytes(range(256)) * 10 + b"\n"), "t.jsonl")
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        trace.read(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        trace.read(tmp_path)


def test_half_characters_are_replaced(tmp_path: Path) -> None:
    raw = step_with(text="a\ud800b", passes={"\udfff": 1}).encode() + b"\n"
    (found,) = trace.read_from(io.BytesIO(raw), "t.jsonl")
    assert found.steps[0].text == "a\ufffdb"
    assert found.names == ["\ufffd"]
    trace.write(tmp_path / "t.jsonl", [found])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["text", "ends", "winner", "winners", "candidates", "passes", "timings_s", "whole", "type",
     "prompt", "settings", "sources", "mode", "finish_reason", "chosen", "elapsed_s", "versions"]
)  # fmt: skip


@given(
    kind=st.sampled_from([0, 1, 2, 3]),
    changes=st.dictionaries(KEYS, JSON, min_size=1, max_size=3),
)
def test_whatever_a_line_holds_it_is_read_or_refused(kind: int, changes: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in trace.lines(traced(STEPS[1:]))]
    lines[kind] |= changes
    raw = "".join(json.dumps(line) + "\n" for line in lines).encode()
    told = ""
    found: tuple[trace.Trace, ...] = ()
    try:
        found = trace.read_from(io.BytesIO(raw), "t.jsonl")
    except InputError as error:
        told = str(error)
    assert bool(found) != told.startswith("t.jsonl")
    if found:
        assert "".join(f"{line}\n" for one in found for line in trace.lines(one)).encode()
        assert page.render(found).encode()


# ---- Where it is written ----------------------------------------------------------------------


def test_a_file_that_is_no_trace_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    trace.check_place(path)
    path.write_text("my notes", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt exists and is not a trace"):
        trace.check_place(path)
    path.write_text("", encoding="utf-8")
    trace.check_place(path)
    trace.write(path, [traced(STEPS)])
    trace.check_place(path)


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        trace.check_place(tmp_path)
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        trace.check_place(tmp_path / "none" / "t.jsonl")
    with pytest.raises(InputError, match="cannot be written"):
        trace.write(tmp_path / "none" / "t.jsonl", [traced(STEPS)])


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.jsonl"
    trace.write(path, [traced(STEPS)])

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        trace.write(path, [traced(BOTH)])
    assert trace.read(path) == (traced(STEPS),)
    assert [p.name for p in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "t.jsonl", tmp_path / "link"
    link.symlink_to(target)
    trace.write(link, [traced(STEPS)])
    assert link.is_symlink()
    assert trace.read(target) == (traced(STEPS),)
    trace.check_place(Path(os.devnull))
    trace.write(Path(os.devnull), [traced(STEPS)])
    assert not Path(os.devnull).is_file()


def test_figures_of_an_answer() -> None:
    found = trace.summarize(traced(STEPS))
    assert (found.n_segments, found.n_agreed, found.n_disputed) == (3, 2, 1)
    assert found.wins == {"ash": 1, "birch": 0, "cedar": 0}
    assert found.timings_s == {"draft": 0.75, "score": 0.375, "rerank": 0.0, "commit": 0.0}
    assert found.bytes_per_s == found.n_bytes / 4.0
    whole_only = trace.summarize(traced([whole("a", "b")]))
    assert (whole_only.n_segments, whole_only.n_disputed) == (1, 1)
    broken = trace.summarize(replace(traced(STEPS), answer=None))
    assert (broken.mode, broken.elapsed_s, broken.passes["ash"]) == (None, None, 3)

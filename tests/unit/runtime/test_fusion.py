"""A part of a fusion: some of its sources, without loading again."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest
from scripted import PROMPT, VOCABULARIES, run, writer_of

from cf_local.errors import CfLocalError, ClosedError, InputError
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.testing import ScriptedSource, writes
from cf_local.types import Answer, Step

TEXTS = {"ada": "the fox is 24.", "bob": "the fox is 68.", "cy": "the fox is 68."}


@pytest.fixture
def fusion() -> Iterator[Fusion]:
    settings = Settings(weights={"ada": 3.0, "bob": 2.0}, only="cy")
    with Fusion([writer_of(n, t) for n, t in TEXTS.items()], settings) as opened:
        yield opened


def test_a_part_answers_as_its_sources_alone_would(fusion: Fusion) -> None:
    part = fusion.of(["cy", "bob"])
    assert [source.info.name for source in part.sources] == ["cy", "bob"]
    assert part.settings == replace(fusion.settings, weights={"bob": 2.0})
    with Fusion([writer_of(n, TEXTS[n]) for n in ("cy", "bob")], part.settings) as own:
        steps, answer = run(own)
    part_steps, part_answer = run(part)
    assert part_answer.text == answer.text == "the fox is 68."
    assert [step.candidates for step in part_steps] == [step.candidates for step in steps]
    assert set(part_answer.passes) == {"bob", "cy"}
    _, whole = run(fusion)
    assert set(whole.passes) == set(TEXTS)


def test_settings_of_its_own_and_nothing_changed_in_the_whole(fusion: Fusion) -> None:
    before = fusion.settings
    part = fusion.of(["bob"], Settings(mode="single"))
    assert part.settings == Settings(mode="single")
    assert fusion.of(["ada"]).settings.only is None
    assert fusion.settings is before
    assert len(fusion.sources) == 3


def test_closing_a_part_closes_nothing(fusion: Fusion) -> None:
    with fusion.of(["ada", "bob"]) as part:
        run(part)
    with pytest.raises(ClosedError):
        part.answer(PROMPT)
    run(fusion)
    run(fusion.of(["ada"]))


def test_the_whole_closes_its_parts(fusion: Fusion) -> None:
    part = fusion.of(["ada", "bob"])
    of_part = part.of(["bob"])
    fusion.close()
    for closed in (part, of_part):
        with pytest.raises(ClosedError):
            closed.answer(PROMPT)


def test_parts_write_in_turn(fusion: Fusion) -> None:
    one, other = fusion.of(["ada", "bob"]), fusion.of(["cy"])
    stream = one.stream(PROMPT)
    assert isinstance(next(stream), Step)
    for waiting in (fusion, other):
        with pytest.raises(CfLocalError, match="already writing"):
            waiting.answer(PROMPT)
    list(stream)
    assert other.answer(PROMPT).text == TEXTS["cy"]


def test_cancelling_the_whole_ends_what_a_part_writes(fusion: Fusion) -> None:
    stream = fusion.of(["ada", "bob"]).stream(PROMPT)
    next(stream)
    fusion.cancel()
    *_, answer = stream
    assert answer.finish_reason == "cancelled"  # type: ignore[union-attr]


@pytest.mark.parametrize("names", [[], ["ada", "ada"], ["eve"]])
def test_names_that_make_no_part(fusion: Fusion, names: list[str]) -> None:
    with pytest.raises(InputError, match="Name some of"):
        fusion.of(names)


def test_weights_that_do_not_fit_or_are_all_zero(fusion: Fusion) -> None:
    with pytest.raises(InputError, match="no source is named 'eve'"):
        fusion.of(["ada", "bob"], Settings(weights={"eve": 1.0}))
    with (
        Fusion([writer_of(n, "a") for n in "xy"], Settings(weights={"y": 0.0})) as other,
        pytest.raises(InputError, match="All weights are zero"),
    ):
        other.of(["y"])


def test_answers_take_turns_with_other_work() -> None:
    pieces = VOCABULARIES[0]
    source = ScriptedSource("ada", pieces, writes(" fox" * 9, pieces), n_sessions=2)
    with Fusion([source], Settings(repetition_guard=False)) as two:
        with two.stream(PROMPT) as first:
            next(first)
            other, seen = two.stream(PROMPT), list[object]()
            next(other)  # in the second slot; such work has the first one
        reader = threading.Thread(target=lambda: seen.extend(other))

        def work() -> Generator[None, None, str]:
            reader.start()
            while not seen:
                yield
            return "done"

        assert two.in_turns(work) == "done"
        reader.join()
        assert isinstance(seen[-1], Answer)

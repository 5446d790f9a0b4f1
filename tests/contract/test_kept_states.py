"""A source's state in a file, for tiny random models of every kind of cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract import (
    GREEDY,
    KINDS,
    LONG_PROMPT,
    MIXED,
    PROMPT,
    WHOLE_ONLY,
    Opener,
    assert_alike,
    assert_same,
    prefilled,
    write,
)

from cf_local.errors import ClosedError
from cf_local.llama.source import LlamaSource
from cf_local.method.session import Resumable, prefill
from cf_local.testing import PieceVocabulary, ScriptedSource, writes
from cf_local.types import RawText


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "scripted"])
def kind(request: pytest.FixtureRequest) -> str:
    """The scripted source keeps no states."""
    return str(request.param)


def gone_on(text: str) -> RawText:
    """The prompt that continues after a response."""
    return RawText(LONG_PROMPT.text + text + " and the dog is")


def n_evaluated(source: LlamaSource, prompt: RawText) -> int:
    before = source.counters.n_tokens
    prefilled(source, prompt)
    return source.counters.n_tokens - before


def kept(open_source: Opener, path: Path) -> tuple[LlamaSource, RawText, list[int]]:
    """The state after an answer in a file: its source, what goes on, the tokens of the file."""
    source = prefilled(open_source(), LONG_PROMPT)
    prompt = gone_on(write(source, 60).decode("utf-8", errors="replace"))
    tokens = source.save(path, prompt)
    assert source.readable(prompt).n_tokens == len(tokens) > 256
    assert tokens == source.prompt_tokens(prompt)[: len(tokens)]
    return source, prompt, tokens


def test_a_restored_state_is_the_evaluated_one(
    open_source: Opener, kind: str, tmp_path: Path
) -> None:
    # Compared with the source that goes on without a file: its batches are the same ones.
    source, prompt, tokens = kept(open_source, tmp_path / "state")
    source, restored = prefilled(source, prompt), open_source()
    assert restored.restore(tmp_path / "state") == len(tokens)
    assert restored.readable(prompt).n_tokens == len(tokens)
    n_new = n_evaluated(restored, prompt)
    assert n_new == len(restored.prompt_tokens(prompt)) - len(tokens)
    assert_alike(restored, source)
    assert write(restored, 80) == write(source, 80)
    restored.restart()
    source.restart()
    assert_alike(restored, source)


def test_a_state_serves_another_text_as_far_as_the_cache_can_be_cut(
    open_source: Opener, kind: str, tmp_path: Path
) -> None:
    _, _, tokens = kept(open_source, tmp_path / "state")
    prompt = RawText(LONG_PROMPT.text[: len(LONG_PROMPT.text) // 2] + ". The fox")
    fresh, restored = prefilled(open_source(), prompt), open_source()
    assert restored.restore(tmp_path / "state") == len(tokens)
    n_all = len(restored.prompt_tokens(prompt))
    n_new = n_evaluated(restored, prompt)
    assert (n_new == n_all) if kind in WHOLE_ONLY else (n_new < 20)
    assert_alike(restored, fresh)


def test_only_what_a_conversation_says_is_kept(
    open_source: Opener, kind: str, tmp_path: Path
) -> None:
    source = prefilled(open_source(), LONG_PROMPT)
    write(source, 60)
    prompt = RawText(LONG_PROMPT.text + ". Another answer")  # as if it had been asked again
    tokens = source.save(tmp_path / "state", prompt)
    assert tokens == source.prompt_tokens(prompt)[: len(tokens)]
    assert len(tokens) >= len(source.prompt_tokens(LONG_PROMPT)) - 1
    write(source, 60)  # it can go on
    restored, fresh = open_source(), prefilled(open_source(), prompt)
    assert restored.restore(tmp_path / "state") == len(tokens)
    prefilled(restored, prompt)
    assert_alike(restored, fresh)
    n_bos = len(source.save(tmp_path / "other", RawText("Something else")))
    assert n_bos <= (kind not in WHOLE_ONLY)


def test_another_seat_can_take_it_up(open_source: Opener, tmp_path: Path) -> None:
    source, prompt, tokens = kept(open_source, tmp_path / "state")
    first, second = open_source(n_sessions=2).source.sessions
    prefilled(first, PROMPT)
    before = first.score(MIXED)
    assert second.restore(tmp_path / "state") == len(tokens)
    assert n_evaluated(second, prompt) < 40
    assert_alike(second, prefilled(source, prompt))
    assert_same(first.score(MIXED), before)
    assert first.readable(PROMPT).n_tokens > 0


def test_a_state_too_long_for_this_context_is_refused(open_source: Opener, tmp_path: Path) -> None:
    kept(open_source, tmp_path / "state")
    small = open_source(n_ctx=64, n_forks=1)
    assert small.restore(tmp_path / "state") == 0
    prefilled(small, PROMPT)
    assert_alike(small, prefilled(open_source(), PROMPT))


def test_what_cannot_be_written_or_read_is_reported(open_source: Opener, tmp_path: Path) -> None:
    source = prefilled(open_source(), LONG_PROMPT)
    assert source.save(tmp_path / "missing" / "state", LONG_PROMPT) == []
    assert source.restore(tmp_path / "missing" / "state") == 0
    (tmp_path / "foreign").write_bytes(b"no state at all" * 99)
    assert source.restore(tmp_path / "foreign") == 0
    assert source.readable(LONG_PROMPT).n_tokens == 0
    prefill(source, PROMPT, sampling=GREEDY)
    assert_alike(source, prefilled(open_source(), PROMPT))
    source.source.close()
    with pytest.raises(ClosedError):
        source.readable(PROMPT)


def test_what_is_kept_is_reported_beforehand(open_source: Opener, tmp_path: Path) -> None:
    source = open_source()
    assert source.readable(LONG_PROMPT) == (0, 0, 0.0)
    prefilled(source, LONG_PROMPT)
    there = source.readable(LONG_PROMPT)
    assert there.n_tokens == len(source.save(tmp_path / "state", LONG_PROMPT))
    assert there.n_bytes == pytest.approx((tmp_path / "state").stat().st_size, rel=0.05, abs=9000)
    assert 0 < there.reading_s < source.counters.decode_s * 1.01


def test_only_sources_with_a_state_can_be_kept(open_source: Opener) -> None:
    words = PieceVocabulary([" fox"])
    assert isinstance(open_source(), Resumable)
    assert not isinstance(ScriptedSource("s", words, writes(" fox", words)), Resumable)

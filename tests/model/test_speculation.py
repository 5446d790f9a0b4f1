"""Speculation saves forward passes where sources agree, and changes nothing that is written.

That the text is the same is what test_against_reference.py shows: it compares with and without.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cf_local.llama import context
from cf_local.llama.source import LlamaSource
from cf_local.method.costs import PassCosts
from cf_local.method.session import prefill
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.types import Answer, Candidate, RawText

PROMPT = RawText("The quick brown")


@pytest.fixture
def twins(tiny_model: Callable[..., Path]) -> Iterator[Fusion]:
    """Two sources that agree on every word, for they are one model."""
    path = tiny_model("llama", seed=3, eog_bias=-60.0, sharpness=12.0)  # no near ties
    with Fusion([LlamaSource(name, path, n_threads=1) for name in ("left", "right")]) as fusion:
        yield fusion


@pytest.fixture(autouse=True)
def _passes_of_all_sizes_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in large models, and whatever else this machine is doing."""
    monkeypatch.setattr(PassCosts, "of", lambda _self, _n_tokens: 1.0)


def written(fusion: Fusion, **changes: object) -> Answer:
    settings = Settings(max_tokens=96, repetition_guard=False, **changes)  # type: ignore[arg-type]
    return fusion.answer(PROMPT, settings)


def test_a_reader_needs_a_pass_per_block_and_a_leader_one_per_token(twins: Fusion) -> None:
    plain, ahead = written(twins, speculation=False), written(twins)
    assert ahead.text == plain.text
    assert min(plain.passes.values()) >= 96
    assert min(ahead.passes.values()) < 48
    assert max(ahead.passes.values()) < 1.2 * max(plain.passes.values())


def only_lines(piece: bytes) -> float:
    return 60.0 * (piece == b"\n")


def test_text_without_words_is_not_read_ahead_for_ever(tiny_model: Callable[..., Path]) -> None:
    path = tiny_model("llama", seed=3, eog_bias=-60.0, bias=only_lines)
    with Fusion([LlamaSource(name, path, n_threads=1) for name in ("left", "right")]) as fusion:
        answer = written(fusion)
    assert not answer.text.strip()
    assert max(answer.passes.values()) < 2 * 96


def test_the_answers_of_cool_r_are_read_along_the_fused_one(twins: Fusion) -> None:
    plain, ahead = written(twins, mode="cool+r", speculation=False), written(twins, mode="cool+r")
    assert ahead.text == plain.text
    assert sum(ahead.passes.values()) < 0.5 * sum(plain.passes.values())


def test_a_sampled_text_is_the_same(twins: Fusion) -> None:
    """Near ties apart: a draw may fall between the two values that a probability has."""
    n_equal = 0
    for seed in range(12):
        sampling = Sampling(temperature=0.2, seed=seed)
        ahead = written(twins, sampling=sampling)
        plain = written(twins, speculation=False, sampling=sampling)
        n_equal += ahead.text == plain.text
    assert n_equal >= 6  # draws that depend on the passes would spoil all


def test_sampling_saves_passes_where_sources_agree(twins: Fusion) -> None:
    sampling = Sampling(temperature=0.1, seed=5)
    ahead, plain = (
        written(twins, sampling=sampling),
        written(twins, speculation=False, sampling=sampling),
    )
    assert ahead.text == plain.text
    assert sum(ahead.passes.values()) < 0.9 * sum(plain.passes.values())


def test_it_is_off_where_a_cache_cannot_share(tiny_model: Callable[..., Path]) -> None:
    paths = [tiny_model("mamba", seed=seed, eog_bias=-60.0) for seed in (1, 2)]
    with Fusion([LlamaSource(path.stem, path, n_threads=1) for path in paths]) as fusion:
        assert all(source.sessions[0].lookahead is None for source in fusion.sources)
        assert written(fusion).passes == written(fusion, speculation=False).passes


@pytest.mark.parametrize("arch", ["llama", "mamba", "jamba"])
def test_an_empty_ending_leaves_the_cache_as_it_was(
    tiny_model: Callable[..., Path], arch: str
) -> None:
    path = tiny_model(arch, seed=3, eog_bias=60.0)
    longer = RawText(PROMPT.text + " fox jumps")
    scores = []
    for ends_first in (False, True):
        source = LlamaSource(arch, path, n_threads=1)
        session = source.sessions[0]
        if ends_first:
            prefill(session, PROMPT, sampling=Sampling())
            assert session.draft(8).ends
            session.commit(Candidate(b"", True))
        prefill(session, longer, sampling=Sampling())
        (score,) = session.score([Candidate(b" over", False)])
        scores.append(score.nll_nats)
        source.close()
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_only_the_thread_that_writes_has_passes_on_several_cores(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP would keep a pool of threads for each caller, and the pools slow each other down."""
    used: list[int] = []
    set_threads = context.lib.llama_set_n_threads

    def spy(handle: object, n_threads: int, n_threads_batch: int) -> None:
        used.append(n_threads)
        set_threads(handle, n_threads, n_threads_batch)

    monkeypatch.setattr(context.lib, "llama_set_n_threads", spy)
    source = LlamaSource("a", tiny_model("llama", seed=3, eog_bias=-60.0), n_threads=2)
    session = source.sessions[0]
    with ThreadPoolExecutor(1) as pool:
        prefill(session, PROMPT, sampling=Sampling())
        session.draft(4)
        assert set(used) == {2}
        used.clear()
        pool.submit(session.extend, 8).result()
        assert set(used) == {1}
        used.clear()
        pool.submit(lambda: prefill(session, PROMPT, sampling=Sampling())).result()
        pool.submit(session.draft, 4).result()
        assert set(used) == {2}  # now this is the thread that writes
    source.close()

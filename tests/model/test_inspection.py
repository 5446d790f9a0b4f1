"""`inspect` on files of all kinds: sound ones are described, others reported; nothing aborts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("gguf")

import tiny_models as tiny

from cf_local.errors import BrokenModelError, CfLocalError, MissingModelError
from cf_local.llama import child
from cf_local.llama.inspection import inspect, inspect_all

KINDS = {
    "llama": "attention",
    "gpt2": "attention",
    "gemma3": "sliding window",
    "mamba": "recurrent",
    "jamba": "hybrid",
    "lfm2": "hybrid",
}


@pytest.mark.parametrize("arch", KINDS)
def test_a_sound_file(arch: str, tiny_model: Callable[..., Path]) -> None:
    card = inspect(tiny_model(arch))
    assert (card.architecture, card.cache, card.problem) == (arch, KINDS[arch], None)
    assert card.n_parameters > 1000
    assert not card.fills_gaps
    assert card.n_bytes == tiny_model(arch).stat().st_size
    assert card.special_tokens["eos"][1] == "<|im_end|>"


def test_templates_are_parsed_and_not_run(tmp_path: Path) -> None:
    vocab = tiny.bpe_vocab()
    for number, template in enumerate(("{% for m in %}", "{{ 'a' * 10 ** 11 }}", "{{" * 3000)):
        path = tmp_path / f"{number}.gguf"
        tiny.make_model(path, "llama", vocab, seed=1, chat_template=template)
        card = inspect(path)
        assert card.template == template
        assert (card.template_error is None) == (number == 1)


def test_what_is_no_model(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(MissingModelError):
        inspect(tmp_path / "none.gguf")
    whole = tiny_model("llama").read_bytes()
    broken = {
        "empty": b"",
        "page": b"<html>",
        "magic": whole[:4],
        "header": whole[:200],
        "half": whole[: len(whole) // 2],
        "last": whole[:-1],
        "future": whole[:4] + b"\x63\0\0\0" + whole[8:],
        "many-keys": whole[:16] + b"\xff" * 8 + whole[24:],
        "many-tensors": whole[:8] + b"\xff" * 7 + b"\x7f" + whole[16:],
    }
    for name, raw in broken.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(raw)
        with pytest.raises(BrokenModelError, match=f"{name}.gguf"):
            inspect(path)
    with pytest.raises(BrokenModelError, match="not a file"):
        inspect(tmp_path)


def test_what_can_be_read_but_not_fused(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    tiny.make_vocab_only(tmp_path / "vocabulary.gguf", tiny.bpe_vocab())
    assert "no weights" in (inspect(tmp_path / "vocabulary.gguf").problem or "")
    tiny.make_embedding_model(tmp_path / "bert.gguf", pooling=None)
    assert "embedding model" in (inspect(tmp_path / "bert.gguf").problem or "")
    unknown = tiny_model("llama").read_bytes().replace(b"llama", b"lamma")
    (tmp_path / "unknown.gguf").write_bytes(unknown)
    card = inspect(tmp_path / "unknown.gguf")
    assert card.architecture == "lamma"
    assert "cannot be loaded" in (card.problem or "")


def test_an_embedding_model(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    card = inspect(tiny.make_embedding_model(tmp_path / "bert.gguf", pooling="CLS"))
    assert (card.pooling, card.cache, card.problem) == ("cls", None, None)
    assert inspect(tiny_model("llama")).pooling is None


def test_a_child_that_dies_is_a_broken_file(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    died = "it was killed by SIGABRT"
    monkeypatch.setattr(child, "run", lambda *_, **__: ([], died))
    with pytest.raises(BrokenModelError, match=died):
        inspect(tiny_model("llama"))


def test_many_files_are_read_in_one_child(
    tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = [tiny_model("llama"), tiny_model("gemma3")]
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    half = tmp_path / "half.gguf"
    half.write_bytes(sound[0].read_bytes()[:2000])
    runs = []
    really = child.run
    monkeypatch.setattr(child, "run", lambda *a, **k: runs.append(a) or really(*a, **k))
    found = inspect_all([sound[0], page, half, tmp_path / "none.gguf", sound[1]])
    assert [found[0], found[4]] == [replace(inspect(path), fills_gaps=None) for path in sound]
    assert [type(found[i]) for i in (1, 2, 3)] == [
        BrokenModelError,
        BrokenModelError,
        MissingModelError,
    ]
    assert len(runs) == 1 + len(sound)  # one for all, one for each call of inspect
    assert inspect_all([]) == []


def test_the_others_are_read_after_one_that_ends_the_child(
    tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.gguf" for number in range(4)]
    for path in paths:
        path.write_bytes(tiny_model("llama").read_bytes())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from cf_local.llama import card\n"
        "really = card.read_card\n"
        "card.read_card = lambda p: os.abort() if p.name[0] in '13' else really(p)\n"
    )
    found = inspect_all(paths)
    assert found[0] == found[2] == replace(inspect(paths[0]), fills_gaps=None)
    for number in (1, 3):
        assert isinstance(found[number], BrokenModelError)
        assert f"{number}.gguf" in str(found[number])
        assert "failed while reading it" in str(found[number])


def test_headers_with_random_bytes(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    """Whatever the bytes: a card or an error of ours (the child may die), and plain JSON."""
    whole = tiny_model("llama").read_bytes()
    for seed in range(25):
        dice, raw = random.Random(seed), bytearray(whole)
        for _ in range(dice.choice((1, 3, 30))):
            raw[dice.randrange(4, 12_000 if seed % 2 else 400)] = dice.randrange(256)
        path = tmp_path / f"{seed}.gguf"
        path.write_bytes(raw)
        try:
            json.dumps(inspect(path).metadata, allow_nan=False)
        except CfLocalError as error:
            assert error.exit_code in (3, 4), error  # noqa: PT017 - or nothing at all

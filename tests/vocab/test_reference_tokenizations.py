"""Our encode and decode against the reference tokenizations that come with the vocabularies."""

from collections.abc import Iterator

import llama_cpp.llama_cpp as lib
import pytest

from .corpus import TEXTS
from .vocabularies import (
    ENCODERS,
    FOLDER,
    GENERATIVE,
    WITHOUT_REFERENCE,
    path_of,
    vocabulary,
)

pytestmark = pytest.mark.vocab

WITH_REFERENCE = [name for name in GENERATIVE if name not in WITHOUT_REFERENCE]
SEPARATOR = "\n__ggml_vocab_test__\n"
AWKWARD = (
    b"",
    b"\x00\x01 \x00",
    "▁ a▁▁b ▁".encode(),  # SentencePiece writes spaces so
    "\ufffd\ufeff\u2028\u0085".encode(),
    b"</s><s><unk><|im_end|><|eot_id|><|endoftext|>[PAD151646]<0x41>",
)


def references(name: str) -> Iterator[tuple[str, list[int]]]:
    """The texts of a vocabulary and their tokens."""
    raw = path_of(name).with_suffix(".gguf.inp").read_bytes().decode()
    texts = raw.removesuffix(SEPARATOR).split(SEPARATOR)
    lines = path_of(name).with_suffix(".gguf.out").read_text(encoding="utf-8").splitlines()
    for text, line in zip(texts, lines, strict=True):
        yield text, [int(token) for token in line.split()]


def test_every_vocabulary_is_tested_or_named_as_unfit() -> None:
    found = {path.stem.removeprefix("ggml-vocab-") for path in FOLDER.glob("ggml-vocab-*.gguf")}
    assert found == {*GENERATIVE, *ENCODERS}
    with_reference = {name for name in found if path_of(name).with_suffix(".gguf.inp").exists()}
    assert {*WITH_REFERENCE} == with_reference - {*ENCODERS}


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_reference_tokenizations_are_reproduced(name: str) -> None:
    words = vocabulary(name)
    n_texts = 0
    for text, tokens in references(name):
        prefix = " " if words.adds_space and text else ""
        assert words.encode((prefix + text).encode()) == tokens, text
        n_texts += 1
    assert n_texts > 40


@pytest.mark.parametrize("name", GENERATIVE)
def test_decoding_gives_back_what_was_encoded(name: str) -> None:
    words = vocabulary(name)
    shared = [text for text, _ in references(WITH_REFERENCE[0])]
    for text in (*shared, *TEXTS.values()):
        assert words.decode(words.encode(text.encode())) == text.encode()
    for raw in AWKWARD:
        assert words.decode(words.encode(raw)) == raw


@pytest.mark.parametrize("name", GENERATIVE)
def test_bytes_that_are_no_text_are_kept(name: str) -> None:
    words = vocabulary(name)
    whole = "é 中🦙".encode()
    for cut in range(len(whole)):  # what other sources leave behind when they cut a character
        for raw in (whole[:cut], whole[cut:], b"a" + whole[cut:] + b" b"):
            assert words.decode(words.encode(raw)) == raw


@pytest.mark.parametrize("name", GENERATIVE)
def test_the_end_tokens_are_those_that_llama_cpp_ends_at(name: str) -> None:
    """They are taken from the log of the load; to ask for each token takes long."""
    known = vocabulary(name)
    asked = [t for t in range(known.n_tokens) if lib.llama_vocab_is_eog(known.handle, t)]
    assert known._model.end_tokens == tuple(asked)
    assert known.end_tokens.tolist() == asked

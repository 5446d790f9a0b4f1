"""Tokens of a segment after the words before it."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.boundary import last_words
from cf_local.method.tokenization import N_CONTEXT_WORDS, ContextEncoder
from cf_local.testing import PieceVocabulary

VOCABULARY = PieceVocabulary(["run", "ning", "running", " the", " fox", "85", " 8", "fox jumps"])
SEGMENTS = st.lists(st.text("run fox8.é東\n", max_size=8).map(str.encode), max_size=6)


class CountingVocabulary:
    """A PieceVocabulary that notes what it encodes."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []

    def encode(self, text: bytes) -> list[int]:
        self.encoded.append(text)
        return VOCABULARY.encode(text)

    def piece(self, token: int) -> bytes:
        return VOCABULARY.piece(token)


def encoder_after(*segments: bytes) -> ContextEncoder:
    encoder = ContextEncoder(VOCABULARY)
    for segment in segments:
        encoder.append(segment)
    return encoder


def pieces(encoder: ContextEncoder, segment: bytes) -> list[bytes]:
    return [VOCABULARY.piece(token) for token in encoder.encode(segment)]


def test_a_segment_after_its_context_is_cut_as_in_the_whole_text() -> None:
    assert pieces(encoder_after(b" the"), b" fox jumps") == [
        b" fox",
        *(bytes([c]) for c in b" jumps"),
    ]


def test_a_segment_that_goes_on_with_a_word_is_cut_on_its_own() -> None:
    assert pieces(encoder_after(b"run"), b"ning") == [b"ning"]  # "running" is one token
    assert pieces(encoder_after(b" 8"), b"5.") == [b"5", b"."]


@given(SEGMENTS, st.text("run fox8.é東\n", max_size=12).map(str.encode))
def test_tokens_spell_the_segment_whatever_came_before(
    segments: list[bytes], segment: bytes
) -> None:
    encoder = encoder_after(*segments)
    assert b"".join(pieces(encoder, segment)) == segment
    ends = accumulate(map(len, pieces(encoder, segment)))
    assert encoder.token_ends(segment) == frozenset(ends)


@given(SEGMENTS)
def test_only_the_last_words_are_encoded_again(segments: list[bytes]) -> None:
    vocabulary = CountingVocabulary()
    encoder, response = ContextEncoder(vocabulary), b""
    for segment in segments:
        encoder.append(segment)
        response += segment
    vocabulary.encoded.clear()
    encoder.encode(b" fox")
    context = last_words(response, N_CONTEXT_WORDS)
    assert set(vocabulary.encoded) <= {context, context + b" fox", b" fox"}


def test_asking_twice_encodes_once() -> None:
    vocabulary = CountingVocabulary()
    encoder = ContextEncoder(vocabulary)
    encoder.encode(b" fox")
    n_encoded = len(vocabulary.encoded)
    encoder.encode(b" fox")
    encoder.token_ends(b" fox")
    assert len(vocabulary.encoded) == n_encoded


@pytest.mark.parametrize("segment", [b" fox", b"ning"])
def test_reset_forgets_the_context(segment: bytes) -> None:
    encoder = encoder_after(b"run", b"ning")
    encoder.reset()
    assert encoder.encode(segment) == encoder_after().encode(segment)

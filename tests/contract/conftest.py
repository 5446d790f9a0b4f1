"""Every test here runs on the scripted source and on tiny random models of every kind of cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract import KINDS, VOCABULARY, WORDS, Opener, noise, prefilled

from cf_local.method.session import Session
from cf_local.testing import PieceVocabulary, ScriptedSource


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_source(kind: str, request: pytest.FixtureRequest) -> Iterator[Opener]:
    opened: list[Any] = []

    def open_(**options: Any) -> Any:
        if kind == "scripted":
            options.pop("n_forks", None)
            pieces = PieceVocabulary([*WORDS, " runn", "ing", " doll", "ars", " shell", "s"])
            source: Any = ScriptedSource(
                "s", pieces, options.pop("script", noise(pieces)), **options
            )
        else:
            from cf_local.llama.source import LlamaSource

            path = request.getfixturevalue("tiny_model")(
                kind, VOCABULARY.get(kind, "bpe"), eog_bias=options.pop("eog_bias", -3.0)
            )
            source = LlamaSource("s", path, n_threads=1, **options)
        opened.append(source)
        return source.sessions[0]

    yield open_
    for source in opened:
        source.close()


@pytest.fixture
def source(open_source: Opener) -> Session:
    """A source that has read PROMPT."""
    return prefilled(open_source())

"""Every test here runs on the scripted source and on tiny random models of every kind of cache.

Some run in actors of a Ray cluster, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from contract import (
    IN_ACTORS,
    KINDS,
    VOCABULARY,
    WORDS,
    Kind,
    Opener,
    is_in_actor,
    noise,
    prefilled,
)

from cf_local.method.session import Session
from cf_local.testing import PieceVocabulary, ScriptedSource


def in_actor(name: str) -> Kind:
    kind = Kind(name)
    kind.in_actor = True
    return kind


CASES = [*map(Kind, KINDS), *map(in_actor, IN_ACTORS)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, id=f"{case}{'-actor' * case.in_actor}") for case in CASES],
)
def kind(request: pytest.FixtureRequest) -> str:
    case: Kind = request.param
    return case


@pytest.fixture
def open_source(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opener]:
    opened: list[Any] = []

    def open_(**options: Any) -> Any:
        if is_in_actor(kind):
            source: Any = open_in_actor(kind, options)
        elif kind == "scripted":
            pieces, script = scripted(options)
            source = ScriptedSource("s", PieceVocabulary(pieces), script, **options)
        else:
            from cf_local.llama.source import LlamaSource

            source = LlamaSource("s", tiny(kind, options), n_threads=1, **options)
        opened.append(source)
        return source.sessions[0]

    def open_in_actor(kind: str, options: dict[str, Any]) -> Any:
        nodes = request.getfixturevalue("ray_nodes")
        import ray_cluster

        monkeypatch.setattr("cf_local.cluster.source.Host", ray_cluster.Reused)
        opener: Any
        if kind == "scripted":
            opener = ray_cluster.OpensScripted(*scripted(options), options)
        else:
            opener = ray_cluster.OpensTiny(tiny(kind, options), options)
        return ray_cluster.open_in_actor(nodes.address, opener)

    def scripted(options: dict[str, Any]) -> Any:
        options.pop("n_forks", None)
        pieces = (*WORDS, " runn", "ing", " doll", "ars", " shell", "s")
        return pieces, options.pop("script", noise(PieceVocabulary(pieces)))

    def tiny(kind: str, options: dict[str, Any]) -> Any:
        bias = options.pop("eog_bias", -3.0)
        return request.getfixturevalue("tiny_model")(
            str(kind), VOCABULARY.get(kind, "bpe"), eog_bias=bias
        )

    yield open_
    for source in opened:
        source.close()


@pytest.fixture
def source(open_source: Opener) -> Session:
    """A source that has read PROMPT."""
    return prefilled(open_source())

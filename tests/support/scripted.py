"""Scripted sources for the tests of the engine: what each says, word by word, is in the test."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.testing import END, PieceVocabulary, Script, ScriptedSource, writes
from cf_local.types import Answer, Event, Prompt, RawText, Step

PROMPT = RawText("How many?")
WORDS = (
    " the",
    " fox",
    " 24",
    " 68",
    ".",
    ",",
    " run",
    "ning",
    " is",
    "\n\nThen",
    "é",
    " 東京",
    "👍🏽",
)
VOCABULARIES = (
    PieceVocabulary(WORDS),
    PieceVocabulary([" th", "e", " f", "ox", " 6", "8.", " running", "\n", " i", "s,"]),
    PieceVocabulary([]),  # bytes
)


def table(vocabulary: PieceVocabulary, says: Mapping[str, Mapping[str | int, float]]) -> Script:
    """After each response the probability of some pieces (or END); after others it ends."""
    known = {
        text.encode(): {
            piece if isinstance(piece, int) else _token(vocabulary, piece): share
            for piece, share in shares.items()
        }
        for text, shares in says.items()
    }
    return lambda response: known.get(response, {END: 1.0})


def _token(vocabulary: PieceVocabulary, piece: str) -> int:
    (token,) = vocabulary.encode(piece.encode())
    return token


def noise(vocabulary: PieceVocabulary, seed: int, end: float = 0.05) -> Script:
    """Something else after every response, drawn by ``seed``; words are likelier than bytes."""
    tokens = sorted(set(vocabulary.encode("".join(WORDS).encode())))

    def script(response: bytes) -> Mapping[int, float]:
        draw = random.Random(zlib.crc32(response, seed))
        chosen = [*draw.sample(tokens, min(4, len(tokens))), END]
        shares = [draw.random() for _ in chosen[:-1]] + [end if draw.random() < 0.8 else 1.0]
        return {t: s / sum(shares) for t, s in zip(chosen, shares, strict=True)}

    return script


def agreeing(vocabulary: PieceVocabulary, text: str, seed: int, own: float) -> Script:
    """Writes ``text`` more or less surely; at a share ``own`` of all places something else."""
    something, known = surer(noise(vocabulary, seed)), writes(text, vocabulary)

    def script(response: bytes) -> Mapping[int, float]:
        draw = random.Random(zlib.crc32(response, seed))
        sure = draw.choice((0.3, 0.6, 0.9, 0.99)) * (draw.random() > own)
        (token,) = known(response)
        shares = {each: (1 - sure) * share for each, share in something(response).items()}
        return {**shares, token: shares.get(token, 0.0) + sure} if sure else shares

    return script


def surer(script: Script) -> Script:
    """The same likeliest tokens, with more of the probability; it seldom ends."""

    def surely(response: bytes) -> Mapping[int, float]:
        shares = {
            token: max(1e-9, share / 30 if token == END else share) ** 3
            for token, share in script(response).items()
        }
        return {token: share / sum(shares.values()) for token, share in shares.items()}

    return surely


def writer_of(
    name: str, text: str, vocabulary: PieceVocabulary = VOCABULARIES[0]
) -> ScriptedSource:
    return ScriptedSource(name, vocabulary, writes(text, vocabulary))


def thinker(name: str, vocabulary: PieceVocabulary, script: Script) -> ScriptedSource:
    """A source whose template opens thinking, so that the response starts inside."""
    source = ScriptedSource(name, vocabulary, script)
    source.info = replace(source.info, opens_thinking={None: "<think>"})
    return source


def run(
    fusion: Fusion, settings: Settings | None = None, prompt: Prompt = PROMPT
) -> tuple[list[Step], Answer]:
    """All steps and the answer; what the steps show is the answer's text."""
    return split(list(fusion.stream(prompt, settings)))


def split(events: Sequence[Event]) -> tuple[list[Step], Answer]:
    *steps, answer = events
    assert isinstance(answer, Answer)
    assert all(isinstance(step, Step) for step in steps)
    only_steps = [step for step in steps if isinstance(step, Step)]
    whole = [step for step in only_steps if step.whole]
    assert whole in ([], only_steps[-1:])
    assert "".join(step.text for step in whole or only_steps) == answer.text
    return only_steps, answer

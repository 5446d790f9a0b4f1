"""One fused text of scripted sources over real vocabularies, every proposal checked.

The check shares nothing with the engine: from the tokens a source drafted it works out where
``docs/method.md`` ("Word boundary") ends the segment, with the reference.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import cast

import reference as ref
from comparison import show

from cf_local import Answer, Fusion, RawText, Settings, Step
from cf_local.testing import END, Script, ScriptedSession, ScriptedSource, writes
from cf_local.types import Candidate, Draft, SegmentKind

from .vocabularies import Memoized, memoized

SEGMENT_LIMIT = 32
_JOINABLE = b" \n\t0123456789.,:;-+=_/()'\"s"


@dataclass(frozen=True)
class Proposal:
    """What a source proposed behind ``response``; ``grown`` is its draft before it was trimmed."""

    response: bytes
    grown: Draft
    final: Draft


class RecordingSource(ScriptedSource):
    """A scripted source whose session remembers its proposals and what was committed."""

    vocabulary: Memoized

    def open_session(self) -> ScriptedSession:
        return Recording(self)


class Recording(ScriptedSession):
    source: RecordingSource

    def __init__(self, source: RecordingSource) -> None:
        super().__init__(source)
        self.proposals: list[Proposal] = []
        self.segments: list[bytes] = []
        self._response = b""
        self._grown = self._final = Draft(b"", False, b"", ())

    def draft(self, limit: int) -> Draft:
        self._grown = self._final = super().draft(limit)
        return self._final

    def extend(self, limit: int) -> Draft:
        self._grown = self._final = super().extend(limit)
        return self._final

    def trim(self, n_bytes: int) -> Draft:
        self._final = super().trim(n_bytes)
        return self._final

    def commit(self, candidate: Candidate) -> None:
        self.proposals.append(Proposal(self._response, self._grown, self._final))
        self.segments.append(candidate.text)
        self._response += candidate.text
        super().commit(candidate)


@dataclass(frozen=True)
class Run:
    """What came of one run; ``violations`` are broken rules in words."""

    answer: Answer
    segments: tuple[bytes, ...]
    n_forced: int
    violations: tuple[str, ...]

    @property
    def text(self) -> bytes:
        return b"".join(self.segments)

    @property
    def n_words(self) -> int:
        return 1 + len(_boundaries(self.text))


ScriptOf = Callable[[int, str], Script]
"""From the index of a source and the name of its vocabulary to what it writes."""


@cache
def writes_in(name: str, text: bytes) -> Script:
    """The script of a source over the vocabulary ``name`` that writes ``text``."""
    return writes(text, memoized(name))


def babbles(name: str, seed: int) -> Script:
    """A model that draws tokens at random, lone bytes too, and ends now and then.

    Two in three are spaces, digits and signs, which other vocabularies love to join.
    """
    vocabulary, joinable = memoized(name), _joinable(name)

    def script(response: bytes) -> Mapping[int, float]:
        draw = random.Random(zlib.crc32(response, seed))
        if draw.random() < 0.02:
            return {END: 0.9}
        token = draw.choice(joinable)
        while draw.random() < 0.33 or not vocabulary.piece(token):
            token = draw.randrange(vocabulary.n_tokens)
        return {token: draw.uniform(0.1, 1)}

    return script


@cache
def _joinable(name: str) -> list[int]:
    vocabulary = memoized(name)
    pieces = ((token, vocabulary.piece(token)) for token in range(vocabulary.n_tokens))
    return [t for t, piece in pieces if piece and len(piece) < 4 and not piece.strip(_JOINABLE)]


def fuse(
    names: Sequence[str], script_of: ScriptOf, segments: SegmentKind, limit: int = SEGMENT_LIMIT
) -> Run:
    """Let sources over the vocabularies ``names`` write together, and check all they did."""
    sources = [
        RecordingSource(f"{index}:{name}", memoized(name), script_of(index, name))
        for index, name in enumerate(names)
    ]
    # With this score every source is asked at every step, so that all drafts are checked.
    settings = Settings(score="nll", segments=segments, segment_limit=limit, repetition_guard=False)
    sessions = [cast(Recording, source.sessions[0]) for source in sources]
    with Fusion(sources, settings) as fusion:
        *steps, answer = fusion.stream(RawText("prompt"))
    assert isinstance(answer, Answer)
    shown = "".join(step.text for step in steps if isinstance(step, Step))
    return Run(
        answer,
        segments=tuple(sessions[0].segments),
        n_forced=sum(_is_full(p, limit) for session in sessions for p in session.proposals),
        violations=(*_whole(sessions, answer, shown), *_cuts(sessions, segments, limit)),
    )


def _whole(sources: Sequence[Recording], answer: Answer, shown: str) -> Iterator[str]:
    """Broken rules about the text as a whole."""
    segments = sources[0].segments
    if any(source.segments != segments for source in sources):
        yield "the sources hold different texts"
    if answer.text != show(b"".join(segments)):
        yield "the answer is not what was committed"
    if shown != answer.text:
        yield "the steps do not add up to the answer"
    if not all(segments[:-1]):
        yield "an empty segment that does not end the answer"


def _cuts(sources: Sequence[Recording], segments: SegmentKind, limit: int) -> Iterator[str]:
    """Broken rules about where single proposals end."""
    for source in sources:
        others = [other.source.vocabulary for other in sources if other is not source]
        judges = others if segments == "aligned" else []
        for proposal in source.proposals:
            cut = len(proposal.final.text)
            if (right := _right_cut(proposal, judges, limit)) != cut:
                yield f"{source.source.info.name} ends behind {cut} bytes, not {right}: {proposal}"


def _right_cut(proposal: Proposal, judges: Sequence[Memoized], limit: int) -> int | None:
    """Where the proposal must end: at the first common boundary, or where the limit cuts it.

    None where neither is: it should have gone on.
    """
    response, draft = proposal.response, proposal.grown
    data, stops = draft.text + draft.lookahead, list(draft.token_ends)
    for cut, seen in pairwise([*stops, *([] if draft.ends else [len(data)])]):
        if _is_common_boundary(response, data[:seen], cut, judges):
            return cut
    if draft.ends:
        return len(draft.text)
    if not _is_full(proposal, limit):
        return None
    whole = [end for end in stops if ref.is_whole_character(data, end)]
    common = [end for end in whole if _is_common(response, data, end, judges)]
    return max(common or whole, default=len(draft.text))


def _is_full(proposal: Proposal, limit: int) -> bool:
    return not proposal.grown.ends and len(proposal.grown.token_ends) >= limit


def _is_common_boundary(response: bytes, seen: bytes, cut: int, judges: Sequence[Memoized]) -> bool:
    return cut in _boundaries(seen) and _is_common(response, seen, cut, judges)


def _is_common(response: bytes, seen: bytes, cut: int, judges: Sequence[Memoized]) -> bool:
    """Whether a token ends at ``cut`` in the tokenization in context of every judge."""
    chars = ref.characters(seen)
    if chars and chars[-1][1] is None:  # an unfinished character is no text yet
        seen = seen[: chars[-1][0]]
    return all(cut in _token_ends(judge, _context(response), seen) for judge in judges)


@cache
def _token_ends(judge: Memoized, context: bytes, seen: bytes) -> frozenset[int]:
    alone, joint = judge.encode(context), judge.encode(context + seen)
    tokens = joint[len(alone) :] if joint[: len(alone)] == alone else judge.encode(seen)
    ends = [0]
    for token in tokens:
        ends.append(ends[-1] + len(judge.piece(token)))
    return frozenset(ends[1:])


@cache
def _context(response: bytes) -> bytes:
    return bytes(ref.last_words(response))


@cache
def _boundaries(data: bytes) -> frozenset[int]:
    return frozenset(ref.boundaries(data))

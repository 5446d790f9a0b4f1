"""How likely a text is under a fusion, and whether the fusion would write it.

With the score "mixture" the probability of a text is the weighted mean of the sources'
probabilities, each of the text in its own tokens. With every other score its log-likelihood is the
weighted mean of theirs (a geometric mean of probabilities): sums over tokens can be added from
window to window and compared between vocabularies; means per token, which "perplexity" and "nll"
rank by, cannot.

Only the Session interface is used: ``prefill`` with what comes before the text, then ``score``.
"""

import logging
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cf_local.errors import Cancelled, ContextError, InputError
from cf_local.evaluation.windows import ending, shared_ends, windows
from cf_local.method.boundary import (
    is_boundary_between,
    is_word_boundary,
    whole_characters,
)
from cf_local.method.reranker import decide, pool
from cf_local.method.session import Legible, Session, prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.progress import IsCancelled, never
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.types import (
    Candidate,
    Event,
    Prompt,
    RawText,
    ScoreKind,
    SegmentKind,
    Step,
    text_of,
)

_log = logging.getLogger(__name__)

NOTHING = RawText("\n")
"""Read before a text that has nothing before it: sources refuse an empty prompt."""
_AHEAD = 96  # bytes of a text that a source reads in one pass
_MAX_CANDIDATES = 16  # scored at once; each holds a row of logits


@dataclass(frozen=True, slots=True)
class Opening:
    """What comes before a text: a prompt, and the beginning of its answer."""

    prompt: Prompt
    answer: str = ""


class Token(NamedTuple):
    """A token of a text, or a word of a fusion, and its log-probability after what comes before it.

    None for the first one. ``likely`` is what was more likely there, or as likely, the best one
    first: for a fusion first what it would write. Log-probabilities are in nats.
    """

    text: bytes
    logprob: float | None
    likely: tuple[tuple[bytes, float], ...] = ()


class Judge:
    """Scores texts with the sources of a fusion, while no answer is running."""

    def __init__(self, fusion: Fusion, settings: Settings) -> None:
        """Raises InputError when ``settings`` do not match the sources."""
        self._fusion, self._settings = fusion, settings
        sources = fusion.speakers(settings)
        self._sessions = [source.sessions[0] for source in sources]
        infos = [source.info for source in sources]
        self._weights = settings.weights_of(infos) if len(infos) > 1 else [1.0]

    def log_likelihoods(self, opening: Opening, texts: Sequence[str]) -> list[float]:
        """The log-likelihood of each text after ``opening``, in nats.

        After a raw prompt, a text that does not fit the contexts is read in windows. After a chat,
        it raises ContextError.
        """
        return self._fusion.alone(lambda: self._log_likelihoods(opening, texts))

    def _log_likelihoods(self, opening: Opening, texts: Sequence[str]) -> list[float]:
        parts = [self._parts(opening, text) for text in texts]
        nlls: dict[Opening, dict[str, float]] = {}
        for start, text in (part for found in parts for part in found):
            nlls.setdefault(start, {})[text] = math.nan
        for start, nlls_nats in nlls.items():
            nlls_nats.update(zip(nlls_nats, self._nlls_nats(start, list(nlls_nats)), strict=True))
        return [0.0 - sum(nlls[start][text] for start, text in found) for found in parts]

    def writes(self, opening: Opening, texts: Sequence[str]) -> list[bool]:
        """Whether the greedy fused answer after ``opening`` begins with each text.

        The text's last word must be whole: an answer " running" does not begin with " run". In the
        modes that choose among whole answers, the answer is that of mode "cool".
        """
        by_opening: dict[Opening, list[str]] = {}
        for text in texts:
            for start, _ in self._parts(opening, text)[:1]:
                by_opening.setdefault(start, []).append(text)
        written: dict[str, str] = {}
        for start, some in by_opening.items():
            written |= dict.fromkeys(some, self._written(start, some))
        return [not text or _begins_with(written[text], text) for text in texts]

    def tokens(
        self, prompt: Prompt, n_likely: int, *, is_cancelled: IsCancelled = never
    ) -> list[Token]:
        """The tokens of a text as its one source reads them; the words of several sources.

        A word's probability is pooled as that of a text is, and one that the fusion would write is
        the first of ``likely``. That takes a draft of every source for each word; without
        ``n_likely`` none. Raises InputError for several sources without raw text, and Cancelled.
        """
        found: list[Token] = []

        def work() -> Generator[None, None, list[Token]]:
            if len(self._sessions) == 1:
                each = self._tokens_of_one(prompt, n_likely)
            else:
                each = self._words(prompt, n_likely)
            for token in each:
                if is_cancelled():
                    raise Cancelled("Cancelled.")
                found.append(token)
                yield
            return found

        return self._fusion.in_turns(work)

    def _tokens_of_one(self, prompt: Prompt, n_likely: int) -> Iterator[Token]:
        (session,) = self._sessions
        if not isinstance(session, Legible):
            raise InputError(f"{session.source.info.name} does not report its tokens.")
        for text, nll_nats, likely in session.read_tokens(prompt, n_likely):
            logprob = None if nll_nats is None else 0.0 - nll_nats
            yield Token(text, logprob, tuple((other, 0.0 - nats) for other, nats in likely))

    def _words(self, prompt: Prompt, n_likely: int) -> Iterator[Token]:
        if not isinstance(prompt, RawText):
            raise InputError("Several sources can score raw text only; ask one source alone.")
        first = next(self._pieces(prompt.text), b"").decode()
        yield Token(first.encode(), None)
        for context, text in windows(prompt.text, len(first), self._sessions, self._n_tokens):
            for session in self._sessions:
                prefill(session, RawText(context), sampling=Sampling(), looks_ahead=True)
            yield from self._read_words(text, n_likely)

    def _read_words(self, text: str, n_likely: int) -> Iterator[Token]:
        """The words of ``text`` after what the sessions have read."""
        rest, n_ahead = text.encode(), 0
        for word in self._pieces(text):
            if n_ahead < 2 * len(word):
                ahead = whole_characters(rest[:_AHEAD])
                for session in self._sessions:
                    if session.lookahead is not None:
                        session.lookahead.prefetch([ahead])
                n_ahead = len(ahead)
            yield self._word(word, rest, n_likely)
            for session in self._sessions:
                session.commit(Candidate(word, ends=False))
            rest, n_ahead = rest[len(word) :], n_ahead - len(word)

    def _pieces(self, text: str) -> Iterator[bytes]:
        """The words of ``text``; those that share a token of some source stay together.

        Read apart, they would have other tokens than in the text, and be less likely.
        """
        raw = text.encode()
        ends = shared_ends(text, [session.token_ends(raw) for session in self._sessions])
        for start, end in pairwise(sorted({0, *ends, len(raw)})):
            yield raw[start:end]

    def _word(self, word: bytes, rest: bytes, n_likely: int) -> Token:
        """The ``word`` that ``rest`` begins with."""
        settings, own = self._settings, Candidate(word, ends=False)
        kind: SegmentKind = "aligned" if settings.segments == "sentence" else settings.segments
        drafts: list[Candidate] = []
        for session in self._sessions if n_likely else ():
            others = [other for other in self._sessions if other is not session]
            limit = max(1, min(settings.segment_limit, session.n_free))
            draft = draft_segment(session, others, kind, limit)
            drafts.append(Candidate(draft.text, draft.ends))
        candidates = list(dict.fromkeys([*drafts, own]))
        is_disputed = len(set(drafts)) > 1
        scores = [session.score(candidates, word_ends=is_disputed) for session in self._sessions]
        nlls = np.array([[score.nll_nats for score in row] for row in scores])
        logprobs = (0.0 - pool(nlls, self._text_kind, self._weights)).tolist()
        logprob = logprobs[candidates.index(own)]
        if not drafts:
            return Token(word, logprob)
        n_drafted = len(set(drafts))
        drafted = candidates[:n_drafted]
        chosen = decide(
            [row[:n_drafted] for row in scores], drafted, settings.score, self._weights
        ).winner
        first, *other = sorted(range(n_drafted), key=lambda i: (i != chosen, -logprobs[i]))
        likely = [(candidates[i].text, logprobs[i]) for i in (first, *other)]
        if _goes_on_with(candidates[first].text, rest, len(word)):
            likely[0] = word, logprob
        return Token(word, logprob, tuple(likely[:n_likely]))

    @property
    def _text_kind(self) -> ScoreKind:
        """How the sources' log-likelihoods of a text are pooled."""
        return "mixture" if self._settings.score == "mixture" else "nll"

    def shortened(self, opening: Opening, n_reserved: int) -> Opening:
        """``opening`` with the end of its raw prompt, to leave up to ``n_reserved`` tokens free.

        At most half of the context stays free.
        """
        prompt = opening.prompt
        if not isinstance(prompt, RawText):
            return opening
        n_reserved = min(n_reserved, min(self._n_tokens) // 2)
        text = ending(prompt.text, self._sessions, self._n_tokens, n_reserved)
        _warn_if_cut(prompt.text, text)
        return replace(opening, prompt=RawText(text) if text else NOTHING)

    def _written(self, opening: Opening, texts: Sequence[str]) -> str:
        """The fused answer, until it is clear whether it begins with one of ``texts``."""
        settings = replace(
            self._settings,
            mode="single" if self._settings.mode == "single" else "cool",
            stop=(),
            sampling=Sampling(),
            repetition_guard=False,
            max_tokens=max(len(text.encode()) for text in texts) + self._settings.segment_limit,
        )
        written = ""
        with closing(write(self._fusion, opening, settings)) as events:
            for event in events:
                if isinstance(event, Step):
                    written += event.text
                if not any(text.startswith(written) for text in texts):
                    break
        return written

    @cached_property
    def _n_tokens(self) -> list[int]:
        """Tokens that each source can read, including the prompt."""
        return self._fusion.alone(
            lambda: [prefill(s, NOTHING, sampling=Sampling()) + s.n_free for s in self._sessions]
        )

    def _parts(self, opening: Opening, text: str) -> list[tuple[Opening, str]]:
        """The windows of a text, each with its own opening."""
        if not isinstance(opening.prompt, RawText):
            return [(opening, text)] if text else []
        prompt = opening.prompt.text
        found = windows(prompt + text, len(prompt), self._sessions, self._n_tokens)
        for first in found[:1]:
            _warn_if_cut(prompt, first.context)
        return [
            (Opening(RawText(context) if context else NOTHING), part) for context, part in found
        ]

    def _nlls_nats(self, opening: Opening, texts: Sequence[str]) -> list[float]:
        """The negative log-likelihood of each text by all sources: pooled."""
        rows = [_nlls_nats(session, opening, texts) for session in self._sessions]
        pooled: list[float] = pool(np.array(rows), self._text_kind, self._weights).tolist()
        return pooled


def write(fusion: Fusion, opening: Opening, settings: Settings) -> Generator[Event]:
    """The events of a fused answer after ``opening``, without the beginning that is given.

    The limits in ``settings`` count from there. Raises InputError for an answer with a given
    beginning in mode "cool+r", which would start over.
    """
    with fusion.stream(opening.prompt, settings, prefix=opening.answer) as events:
        yield from events


def _warn_if_cut(text: str, kept: str) -> None:
    if kept != text:
        _log.warning(
            "A prompt of %d characters is too long for the contexts: only its last %d are read.",
            len(text),
            len(kept),
        )


def _nlls_nats(session: Session, opening: Opening, texts: Sequence[str]) -> list[float]:
    """What one source gives texts after ``opening``, which it reads once."""
    prefill(session, opening.prompt, sampling=Sampling())
    if opening.answer:
        session.commit(Candidate(opening.answer.encode(), ends=False))
    nlls_nats: list[float] = []
    for first in range(0, len(texts), _MAX_CANDIDATES):
        some = texts[first : first + _MAX_CANDIDATES]
        scores = session.score([Candidate(text.encode(), ends=False) for text in some])
        nlls_nats += [score.nll_nats for score in scores]
        session.rollback()
    if math.inf in nlls_nats:
        n_chars = len(texts[nlls_nats.index(math.inf)])
        raise ContextError(
            f"{session.source.info.name}: a text of {n_chars} characters does not fit after a "
            f"prompt of {len(text_of(opening.prompt))}. Choose a larger context."
        )
    return nlls_nats


def _goes_on_with(draft: bytes, rest: bytes, n_word: int) -> bool:
    """Whether a draft where ``rest`` comes next begins with its first word, of ``n_word`` bytes.

    Of words that stay together, a draft of the first ones is enough.
    """
    n_same = min(len(draft), n_word)
    if not draft or draft[:n_same] != rest[:n_same]:
        return False
    if len(draft) == n_word:
        return True
    longer = rest if len(draft) < n_word else draft
    return is_word_boundary(draft[:n_same], longer[n_same:])


def _begins_with(written: str, text: str) -> bool:
    """Whether ``written`` begins with ``text`` and its last word is whole there."""
    if not written.startswith(text):
        return False
    if not text or text[-1].isspace() or len(written) == len(text):
        return True
    return is_boundary_between(text[-1], written[len(text)])

"""A session of a loaded GGUF model: one position in it, with its prompt and response.

A session joins the parts of this package: text to tokens (``vocabulary``, ``prompt``), tokens to
probabilities (``cache``), the choice of the next token (``sampler``), and what is built on them:
its own draft, the candidates of all sources, and the lookahead. This module checks when a call may
be made, and updates all parts when the response changes.
"""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cf_local.errors import CfLocalError, ClosedError, ContextError
from cf_local.llama.cache import Cache
from cf_local.llama.candidates import Candidates, OwnDraft
from cf_local.llama.committed import CommittedText
from cf_local.llama.context import MAX_PASS_LOGITS, Context, Passes
from cf_local.llama.lookahead import LlamaLookahead
from cf_local.llama.sampler import TokenChooser
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.session import Joins, Others, Readable, ReadToken, Source, prefill
from cf_local.method.tokenization import ContextEncoder
from cf_local.progress import IsCancelled, never
from cf_local.settings import Sampling
from cf_local.types import (
    Candidate,
    Counters,
    Draft,
    Prompt,
    RawText,
    Score,
    Tokens,
)


class LoadedSource(Source, Protocol):
    """What a session needs from its source."""

    vocabulary: LlamaVocabulary
    n_ctx: int
    is_closed: bool
    state_key: str

    @property
    def n_bos(self) -> int:
        """Tokens that are read before those of a raw text."""

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt."""

    def check(self, prompt: Prompt, tokens: Sequence[int], reserve_tokens: int) -> None:
        """Raise InputError or ContextError for a prompt that leaves too little room."""

    def settle_in(self) -> None:
        """Make passes from this thread use all threads."""


class LlamaSession:
    """A position in a loaded model. Not thread-safe."""

    def __init__(
        self, source: LoadedSource, context: Context, n_forks: int, texts: list[CommittedText]
    ) -> None:
        """``texts`` has the texts of all sessions of the source; this session adds its own."""
        self.source = source
        self._vocabulary = source.vocabulary
        self.n_ctx = source.n_ctx
        self._context = context
        self._passes = Passes(context)
        self._committed = CommittedText(context, self._passes, texts)
        texts.append(self._committed)
        self._cache = Cache(context, self._passes, self._committed, n_forks)
        self._encoder = ContextEncoder(self._vocabulary)
        self._chooser = TokenChooser(self._cache, self._vocabulary)
        self._candidates = Candidates(self._cache, self._encoder, self._vocabulary)
        self._lookahead = LlamaLookahead(
            self._chooser, self._cache, self._encoder, self._vocabulary, self.n_ctx
        )

    @property
    def counters(self) -> Counters:
        """Forward passes, evaluated tokens and seconds spent since the load."""
        return self._context.counters

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far."""
        return self._cache.n_tokens - self._committed.n_prompt

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""
        return self.n_ctx - self._cache.n_tokens

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a forward pass over ``n_tokens``, while no answer is written.

        Changes nothing of what was read.
        """
        self._check_open()
        return self._cache.time_pass(n_tokens)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``prefill`` would evaluate them."""
        return self.source.encode(prompt)

    def n_resident(self, prompt: Prompt) -> int:
        """Tokens it has read of a prompt that continues its own (see Session.n_resident)."""
        return self._committed.n_continued(self.prompt_tokens(prompt))

    def prefill(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling,
        reserve_tokens: int = 1,
        looks_ahead: bool = False,
        revisits: bool = False,
        grammar: str | None = None,
        is_cancelled: IsCancelled = never,
    ) -> Generator[float, None, int]:
        """Evaluate the prompt in parts (see Session.prefill)."""
        self._check_open()
        tokens = self.prompt_tokens(prompt)
        self.source.check(prompt, tokens, reserve_tokens)
        self._chooser.start(sampling, grammar)
        self._passes.is_cancelled = is_cancelled
        self.rollback()
        self._encoder.reset()
        self.source.settle_in()
        can_share = self._context.sequences.can_share
        yield from self._cache.prefill(
            tokens,
            is_lazy=looks_ahead and can_share,
            revisits=revisits and can_share,
        )
        return len(tokens)

    def read_tokens(self, prompt: Prompt, n_likely: int) -> Generator[ReadToken]:
        """The tokens of a prompt and how likely each is (see Legible.read_tokens)."""
        self._check_open()
        tokens = self.prompt_tokens(prompt)
        self.source.check(prompt, tokens[:1], 0)
        is_text = isinstance(prompt, RawText)
        n_bos = self.source.n_bos if is_text else 0
        adds_space = is_text and self._vocabulary.adds_space
        for index, (token, nll_nats, likely) in enumerate(self._evaluated(tokens, n_likely)):
            piece = self._vocabulary.piece(token)
            if index > n_bos:
                found = tuple((self._vocabulary.piece(other), nats) for other, nats in likely)
                yield ReadToken(piece, nll_nats, found)
            elif index == n_bos:
                yield ReadToken(piece[adds_space:], None, ())

    def _evaluated(
        self, tokens: list[int], n_likely: int
    ) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
        """Each token, its negative log-likelihood (0 for the first), the likeliest in its place."""
        yield tokens[0], 0.0, []
        n_done = 1
        while n_done < len(tokens):
            begin = 0 if len(tokens) <= self.n_ctx else max(0, n_done - self.n_ctx // 2)
            before, text = tokens[begin:n_done], tokens[n_done : begin + self.n_ctx]
            prefill(self, Tokens(tuple(before)), sampling=Sampling())
            for start in range(0, len(text), MAX_PASS_LOGITS):
                head = self._cache.head
                part = text[start : start + MAX_PASS_LOGITS]
                (end,) = self._cache.read([(head, part)], all_rows=True)
                for node in end.path_from(head):
                    assert node.parent is not None
                    likely = node.parent.expected.likeliest(n_likely)
                    yield node.token, node.nll_nats, likely
                self._cache.commit(end)
            n_done += len(text)

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Session.draft)."""
        self._check_prefilled()
        self._cache.settle()
        self._candidates.own = OwnDraft(self._cache.head, self._chooser, self._vocabulary)
        return self.extend(limit)

    def extend(self, limit: int) -> Draft:
        """Continue the draft to its next word boundary (see Session.extend)."""
        draft = self._own_draft()
        draft.extend(limit)
        return draft.reported()

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft after one of its tokens (see Session.trim)."""
        draft = self._own_draft()
        draft.trim(n_bytes)
        return draft.reported()

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Where tokens end in ``text`` after the response (see Session.token_ends)."""
        self._check_open()
        return self._encoder.token_ends(text)

    def score(self, candidates: Sequence[Candidate], *, word_ends: bool = False) -> list[Score]:
        """Negative log-likelihood of each candidate (see Session.score)."""
        self._check_prefilled()
        return self._candidates.score(candidates, word_ends)

    def others(self, candidates: Sequence[Candidate], joins: Joins) -> list[Others]:
        """Upper bounds of all other segments (see Session.others)."""
        self._check_prefilled()
        return self._candidates.others(candidates, joins)

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Session.commit)."""
        self._check_prefilled()
        node = self._candidates.find(candidate)
        if node is None:
            raise ContextError(
                f"{self.source.info.name}: its context of {self.n_ctx} tokens is full. "
                "Choose a larger one."
            )
        self._chooser.follow(node, is_own=self._candidates.is_own(candidate))
        self._cache.commit(node)
        self._encoder.append(candidate.text)
        self._candidates.drop()

    @property
    def lookahead(self) -> LlamaLookahead | None:
        """Evaluates text ahead of the response (see Session.lookahead)."""
        return self._lookahead if self._context.sequences.can_share else None

    @property
    def state_key(self) -> str:
        """Identifies model file, version and cache (see Resumable.state_key)."""
        return self.source.state_key

    def readable(self, prompt: Prompt) -> Readable:
        """What it has read of a prompt (see Resumable.readable)."""
        self._check_open()
        return self._committed.readable(self.prompt_tokens(prompt))

    def save(self, path: Path, prompt: Prompt) -> list[int]:
        """Write the state after what it has read of a prompt (see Resumable.save)."""
        self._check_open()
        self.rollback()
        return self._cache.save(path, self.prompt_tokens(prompt))

    def restore(self, path: Path) -> int:
        """Load a state (see Resumable.restore)."""
        self._check_open()
        self.rollback()
        return self._cache.restore(path)

    def rollback(self) -> None:
        """Drop the draft, the scored candidates and the lookahead."""
        if not self.source.is_closed:
            self._candidates.drop()
            self._cache.drop_all()
            self._chooser.forget()

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response; keep the prompt (see Session.restart)."""
        self._check_prefilled()
        self._candidates.drop()
        self._encoder.reset()
        self._cache.restart(keep_response=expect_same)
        self._chooser.restart()

    def end(self) -> None:
        """The source is closed: drop all references to its memory."""
        self._chooser.close()
        self._cache.close()

    def _own_draft(self) -> OwnDraft:
        self._check_prefilled()
        if self._candidates.own is None:
            raise CfLocalError(f"{self.source.info.name}: there is no draft; call draft() first.")
        return self._candidates.own

    def _check_open(self) -> None:
        if self.source.is_closed:
            raise ClosedError(f"{self.source.info.name} has been closed.")

    def _check_prefilled(self) -> None:
        self._check_open()
        if not self._committed.n_prompt:
            raise CfLocalError(f"{self.source.info.name}: call prefill() with a prompt first.")

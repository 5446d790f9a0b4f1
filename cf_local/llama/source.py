"""The llama.cpp Source: one GGUF model behind the Source interface.

It joins the parts of this package: text to tokens (``vocabulary``, ``prompt``), tokens to
probabilities (``cache``), and the choice of the next token (``sampler``).
"""

import math
import os
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from pathlib import Path

from cf_local.boundary import is_word_boundary
from cf_local.errors import CfLocalError, ClosedError, ContextError, InputError
from cf_local.llama.branch import Branch
from cf_local.llama.cache import Cache, n_cells, n_sequences
from cf_local.llama.context import Context
from cf_local.llama.model import Model
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.sampler import Sampler
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.source import IsCancelled, Progress, never
from cf_local.tokenization import ContextEncoder
from cf_local.types import (
    Candidate,
    Counters,
    Draft,
    Prompt,
    RawText,
    Sampling,
    Score,
    SourceInfo,
)

DEFAULT_CONTEXT = 4096
"""Tokens of context unless the user or the model says otherwise."""
_TINY_BYTES = 32_000_000


class LlamaSource:
    """One GGUF model, its position and its cache. Not thread-safe."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        n_ctx: int | None = None,
        n_forks: int = 4,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        template: str | None = None,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``. ``n_forks`` is how many candidates of others are scored at once.

        ``n_ctx`` is 4096 tokens by default and never more than the model was trained with;
        ``template`` replaces the file's chat template. Raises what Model and Context raise.
        """
        self._model = Model(
            path, n_gpu_layers=n_gpu_layers, is_cancelled=is_cancelled, on_progress=on_progress
        )
        try:
            self._vocabulary = LlamaVocabulary(self._model)
            template = template or self._model.metadata("tokenizer.chat_template")
            self._template = ChatTemplate(template, self._vocabulary, name)
            self.n_ctx = min(n_ctx or DEFAULT_CONTEXT, self._model.n_ctx_train)
            n_threads = n_threads or _threads_for(path)
            self._context = Context(
                self._model,
                n_cells=n_cells(self.n_ctx, n_forks),
                n_sequences=n_sequences(n_forks),
                n_threads=n_threads,
            )
        except BaseException:
            self._model.close()
            raise
        self.info = SourceInfo(name, str(path), self.n_ctx, n_threads)
        self._cache = Cache(self._context, n_forks)
        self._encoder = ContextEncoder(self._vocabulary)
        self._sampler = Sampler(Sampling(), self._vocabulary.n_tokens)
        self._end_tokens = frozenset(self._vocabulary.end_tokens.tolist())
        self._closed = False
        self._draft: Branch | None = None
        self._scored: dict[bytes, Branch] = {}

    @property
    def counters(self) -> Counters:
        """Forward passes, tokens evaluated and seconds spent in them since the load."""
        return self._context.counters

    @property
    def has_template(self) -> bool:
        """False when the file has no chat template and "User: / Assistant:" is used."""
        return not self._template.is_plain

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far."""
        return len(self._cache.tokens) - self._cache.n_prompt

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""
        return self.n_ctx - len(self._cache.tokens)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``begin`` would evaluate them."""
        return encode_prompt(prompt, self._template, self._vocabulary)

    def begin(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling,
        reserve_tokens: int = 1,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> int:
        """Evaluate the prompt (see Source.begin)."""
        self._check_open()
        tokens = self.prompt_tokens(prompt)
        self._check_prompt(prompt, tokens, reserve_tokens)
        self._sampler.close()
        self._sampler = Sampler(sampling, self._vocabulary.n_tokens)
        self._cache.is_cancelled = is_cancelled
        self.rollback()
        self._encoder.reset()
        self._cache.read_prompt(tokens, on_progress)
        return len(tokens)

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Source.draft)."""
        self._check_begun()
        self._draft = self._cache.new_draft()
        if self._draft.next_token is None:
            self._draft.next_token = self._sampler.choose(self._draft.end)
        return self.extend(limit)

    def extend(self, limit: int) -> Draft:
        """Go on with the draft to its next word boundary (see Source.extend)."""
        draft = self._own_draft()
        while not self._ends(draft) and len(draft.tokens) < limit:
            self._cache.advance(draft)
            draft.next_token = self._sampler.choose(draft.end)
            if is_word_boundary(self._text(draft), self._vocabulary.piece(draft.next_token)):
                break
        return self._as_draft(draft)

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft behind one of its tokens (see Source.trim)."""
        draft = self._own_draft()
        n_kept = 1 + self._token_ends(draft).index(n_bytes)
        if n_kept < len(draft.tokens):
            self._cache.trim(draft, n_kept)
        return self._as_draft(draft)

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Where tokens end in ``text`` behind the response (see Source.token_ends)."""
        self._check_open()
        return self._encoder.token_ends(text)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """What this source thinks of the candidates (see Source.score)."""
        self._check_begun()
        self._read(c.text for c in candidates if self._branch(c) is None)
        return [self._score(candidate) for candidate in candidates]

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Source.commit)."""
        self._check_begun()
        if self._branch(candidate) is None:
            self._read([candidate.text])
        branch = self._branch(candidate)
        if branch is None:
            raise ContextError(
                f"{self.info.name}: its context of {self.n_ctx} tokens is full. "
                "Choose a larger one."
            )
        self._cache.commit(branch)
        self._encoder.append(candidate.text)
        self.rollback()

    @property
    def can_foresee(self) -> bool:
        """Whether text can be evaluated before it is drafted (see Source.can_foresee)."""
        return self._context.can_share and self._sampler.is_greedy

    def foresee(self, n_tokens: int) -> bytes:
        """Write ahead of the response (see Source.foresee)."""
        self._check_begun()
        self._cache.guess(self._own_part_of_guess())
        for _ in range(min(n_tokens, self.n_free - len(self._cache.guessed))):
            token = self._cache.guess_rows()[-1].best
            if token in self._end_tokens:
                break
            self._cache.guess([*self._cache.guessed, token])
        return self._vocabulary.decode(self._cache.guessed)

    def preview(self, text: bytes) -> None:
        """Evaluate text that is likely to come (see Source.preview)."""
        self._check_begun()
        if not self._vocabulary.decode(self._cache.guessed).startswith(text):
            tokens = self._encoder.encode(text)
            self._cache.guess(tokens[: max(0, self.n_free)])

    def rollback(self) -> None:
        """Drop the draft and the scored candidates."""
        if not self._closed:
            self._draft, self._scored = None, {}
            self._cache.drop_branches()

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response, keep the prompt (see Source.restart)."""
        self._check_begun()
        response = self._cache.tokens[self._cache.n_prompt :]
        self.rollback()
        self._encoder.reset()
        self._cache.restart()
        if expect_same and self.can_foresee:
            self._cache.guess(response)

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        if not self._closed:
            self._closed = True
            self._sampler.close()
            self._context.close()
            self._model.close()

    def _own_part_of_guess(self) -> list[int]:
        """What of the guess this source would write itself."""
        rows = zip(self._cache.guessed, self._cache.guess_rows(), strict=False)
        return [token for token, _ in takewhile(lambda pair: pair[0] == pair[1].best, rows)]

    def _read(self, texts: Iterable[bytes]) -> None:
        """Evaluate texts of others behind the response."""
        encoded = {text: self._encoder.encode(text) for text in texts}
        fitting = [text for text, tokens in encoded.items() if self._cache.fits(len(tokens))]
        branches = self._cache.read([encoded[text] for text in fitting])
        self._scored |= zip(fitting, branches, strict=True)

    def _branch(self, candidate: Candidate) -> Branch | None:
        """The own draft when it is this very candidate, else what was read of this text."""
        draft = self._draft
        if draft and candidate == Candidate(self._text(draft), self._ends(draft)):
            return draft
        return self._scored.get(candidate.text)

    def _score(self, candidate: Candidate) -> Score:
        branch = self._branch(candidate)
        if branch is None:  # it does not fit the context, so it must not win
            return Score(math.inf, 1)
        nll_nats, n_terms = branch.nll_nats, len(branch.tokens)
        if candidate.ends:
            nll_nats += branch.end.nll_of_any(self._vocabulary.end_tokens)
            n_terms += 1
        return Score(nll_nats, n_terms)

    def _as_draft(self, draft: Branch) -> Draft:
        ends = self._ends(draft)
        return Draft(
            text=self._text(draft),
            ends=ends,
            lookahead=b"" if ends else self._vocabulary.piece(_chosen(draft)),
            token_ends=self._token_ends(draft),
        )

    def _ends(self, draft: Branch) -> bool:
        return _chosen(draft) in self._end_tokens

    def _text(self, draft: Branch) -> bytes:
        return self._vocabulary.decode(draft.tokens)

    def _token_ends(self, draft: Branch) -> tuple[int, ...]:
        return tuple(accumulate(len(self._vocabulary.piece(token)) for token in draft.tokens))

    def _own_draft(self) -> Branch:
        self._check_begun()
        if self._draft is None or not self._draft.cached:
            raise CfLocalError(f"{self.info.name}: there is no draft to go on with.")
        return self._draft

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.info.name} has been closed.")

    def _check_begun(self) -> None:
        self._check_open()
        if not self._cache.n_prompt:
            raise CfLocalError(f"{self.info.name}: begin() with a prompt comes first.")

    def _check_prompt(self, prompt: Prompt, tokens: Sequence[int], reserve_tokens: int) -> None:
        name = self.info.name
        if not tokens or prompt == RawText(""):
            raise InputError(f"{name}: the prompt is empty.")
        if len(tokens) + reserve_tokens > self.n_ctx:
            raise ContextError(
                f"{name}: the prompt has {len(tokens)} tokens and {reserve_tokens} must be left "
                f"for the answer, but the context holds {self.n_ctx}. Shorten the prompt or choose "
                f"a larger context ({name} was trained with {self._model.n_ctx_train})."
            )


def _chosen(draft: Branch) -> int:
    assert draft.next_token is not None
    return draft.next_token


def _threads_for(path: Path) -> int:
    """All cores, but one for a tiny model: its passes are shorter than waiting for each other.

    On a busy machine that wait made the built-in models ten times slower (docs/LOG.md).
    """
    return 1 if path.stat().st_size < _TINY_BYTES else _available_cores()


def _available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

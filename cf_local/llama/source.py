"""The llama.cpp Source: one GGUF model behind the Source interface.

It joins the parts of this package: text to tokens (``vocabulary``, ``prompt``), tokens to
probabilities (``cache``), and the choice of the next token (``sampler``).
"""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import TypeGuard, Unpack

from cf_local.boundary import is_word_boundary
from cf_local.errors import CfLocalError, ClosedError, ContextError, InputError
from cf_local.llama.cache import Cache
from cf_local.llama.constraint import Constraint
from cf_local.llama.loaded import Loaded
from cf_local.llama.sampler import Sampler
from cf_local.llama.tree import Node
from cf_local.source import Beginning, IsCancelled, Progress, Readable, drained, never
from cf_local.tokenization import ContextEncoder
from cf_local.types import (
    Candidate,
    Counters,
    Draft,
    Foreseen,
    KvType,
    Prompt,
    RawText,
    Sampling,
    Score,
    SourceInfo,
)


@dataclass(slots=True)
class _Draft:
    """What the source would write behind ``start``; ``next_token`` is chosen, not evaluated.

    It is None where a grammar allows no token.
    """

    start: Node
    nodes: list[Node]
    next_token: int | None

    @property
    def end(self) -> Node:
        """The last node."""
        return self.nodes[-1] if self.nodes else self.start

    @property
    def tokens(self) -> list[int]:
        """Its tokens."""
        return [node.token for node in self.nodes]


class LlamaSource:
    """One GGUF model, its position and its cache. Not thread-safe."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        n_ctx: int | None = None,
        n_forks: int = 4,
        n_seats: int = 1,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        devices: Sequence[str] | None = None,
        kv_type: KvType = "f16",
        template: str | None = None,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``. ``n_forks`` is how many candidates of others are scored at once.

        ``n_ctx`` is 4096 tokens by default and never more than the model was trained with; each
        of ``n_seats`` conversations has as many. ``template`` replaces the file's chat template.
        ``devices`` are the GPUs for the layers: none for the CPU alone, None for all. Raises what
        Loaded raises.
        """
        loaded = Loaded(
            name,
            path,
            n_ctx=n_ctx,
            n_forks=n_forks,
            n_seats=n_seats,
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            devices=devices,
            kv_type=kv_type,
            template=template,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
        )
        caches: list[Cache] = []
        self._sit(loaded, n_forks, 0, caches)
        self._others = tuple(object.__new__(LlamaSource) for _ in range(n_seats - 1))
        for index, other in enumerate(self._others, 1):
            other._sit(loaded, n_forks, index, caches)
            other._others = ()

    def _sit(self, loaded: Loaded, n_forks: int, index: int, caches: list[Cache]) -> None:
        """Take a seat of the loaded model; ``caches`` are those of all seats."""
        self._loaded = loaded
        self._vocabulary, self._template = loaded.vocabulary, loaded.template
        self.n_ctx = loaded.n_ctx
        self._context = loaded.contexts[index]
        self._cache = Cache(self._context, n_forks, caches)
        caches.append(self._cache)
        self._encoder = ContextEncoder(self._vocabulary)
        self._sampler = Sampler(Sampling(), self._vocabulary.n_tokens)
        self._end_tokens = self._vocabulary.end_token_set
        self._constraint: Constraint | None = None
        self._wants_rows = False  # whether the likeliest token alone does not say what is chosen
        self._closed = False
        self._draft: _Draft | None = None
        self._scored: dict[bytes, Node] = {}

    @property
    def info(self) -> SourceInfo:
        """Name, file, context and threads."""
        return self._loaded.info

    @property
    def seats(self) -> tuple["LlamaSource", ...]:
        """This source and its others over the same model (see Source.seats)."""
        return (self, *self._others)

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
        return self._cache.n_tokens - self._cache.n_prompt

    @property
    def n_free(self) -> int:
        """Tokens by which the response can still grow before the context is full."""
        return self.n_ctx - self._cache.n_tokens

    def use_threads(self, n_threads: int) -> None:
        """Compute with at most so many threads from now on."""
        self._loaded.use_threads(n_threads)

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a forward pass over ``n_tokens``; before the first prompt only.

        What cancels the load stops it.
        """
        return self._loaded.time_pass(n_tokens)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as ``begin`` would evaluate them."""
        return self._loaded.encode(prompt)

    def continues(self, prompt: Prompt) -> int:
        """Tokens of a prompt that goes on with its own (see Source.continues)."""
        return self._cache.n_continued(self.prompt_tokens(prompt))

    def begin(
        self, prompt: Prompt, *, on_progress: Progress | None = None, **how: Unpack[Beginning]
    ) -> int:
        """Evaluate the prompt (see Source.begin)."""
        return drained(self.beginning(prompt, **how), on_progress)

    def beginning(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling,
        reserve_tokens: int = 1,
        speculates: bool = False,
        revisits: bool = False,
        scores_prompt: bool = False,
        tells_uncertainty: bool = False,
        grammar: str | None = None,
        is_cancelled: IsCancelled = never,
    ) -> Generator[float, None, int]:
        """Evaluate the prompt in parts (see Source.beginning)."""
        self._check_open()
        tokens = self.prompt_tokens(prompt)
        self._check_prompt(prompt, tokens, reserve_tokens)
        self._sampler.close()
        self._sampler = Sampler(sampling, self._vocabulary.n_tokens)
        self._constraint = Constraint(self._vocabulary, grammar) if grammar else None
        self._wants_rows = grammar is not None or not self._sampler.is_greedy
        self._cache.is_cancelled = is_cancelled
        self._cache.keeps_entropy = tells_uncertainty
        self.rollback()
        self._encoder.reset()
        self._loaded.settle_in()
        yield from self._cache.reading(
            tokens,
            is_lazy=speculates and self.can_foresee,
            revisits=revisits and self.can_foresee,
            scores=scores_prompt,
        )
        return len(tokens)

    def prompt_score(self) -> Score:
        """How well it reads the prompt (see Source.prompt_score)."""
        self._check_begun()
        if self._cache.prompt_score is None:
            raise CfLocalError(f"{self.info.name}: nobody announced to ask for the prompt's score.")
        return self._cache.prompt_score

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Source.draft)."""
        self._check_begun()
        self._cache.settle()
        head = self._cache.head
        self._draft = _Draft(head, [], self._choose(head))
        return self.extend(limit)

    def extend(self, limit: int) -> Draft:
        """Go on with the draft to its next word boundary (see Source.extend)."""
        draft = self._own_draft()
        text = self._text(draft)
        while self._goes_on(draft.next_token) and len(draft.nodes) < limit:
            node = self._advance(draft.end, draft.next_token)
            draft.nodes.append(node)
            text += self._vocabulary.piece(node.token)
            draft.next_token = self._choose(node)
            if is_word_boundary(text, self._lookahead(draft)):
                break
        return self._as_draft(draft)

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft behind one of its tokens (see Source.trim)."""
        draft = self._own_draft()
        n_kept = 1 + self._token_ends(draft).index(n_bytes)
        if n_kept < len(draft.nodes):
            draft.next_token = draft.nodes[n_kept].token
            del draft.nodes[n_kept:]
        return self._as_draft(draft)

    def uncertainty(self) -> float:
        """Mean entropy of the draft's choices (see Source.uncertainty)."""
        draft = self._own_draft()
        if not self._cache.keeps_entropy:
            raise CfLocalError(f"{self.info.name}: nobody announced to ask for its uncertainty.")
        choices = (
            [draft.start, *draft.nodes] if self._ends(draft) else [draft.start, *draft.nodes[:-1]]
        )
        return fmean(node.expected.entropy_nats for node in choices)

    def token_ends(self, text: bytes) -> frozenset[int]:
        """Where tokens end in ``text`` behind the response (see Source.token_ends)."""
        self._check_open()
        return self._encoder.token_ends(text)

    def n_tokens(self, text: str) -> int:
        """Tokens of a text on its own (see Source.n_tokens)."""
        self._check_open()
        return len(self._vocabulary.encode(text.encode()))

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """What this source thinks of the candidates (see Source.score)."""
        self._check_begun()
        self._read(candidates)
        return [self._score(candidate) for candidate in candidates]

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Source.commit)."""
        self._check_begun()
        if self._node(candidate) is None:
            self._read([candidate])
        node = self._node(candidate)
        if node is None:
            raise ContextError(
                f"{self.info.name}: its context of {self.n_ctx} tokens is full. "
                "Choose a larger one."
            )
        if not self._is_own(candidate):
            self._sampler.renew()  # what it drew for its own draft had a part in this choice
        if self._constraint is not None:
            self._constraint.commit(self._path(node))
        self._cache.commit(node)
        self._encoder.append(candidate.text)
        self._draft, self._scored = None, {}

    @property
    def can_foresee(self) -> bool:
        """Whether text can be evaluated before it is drafted (see Source.can_foresee)."""
        return self._context.can_share

    def foreseen(self) -> Foreseen:
        """What is known of the next draft (see Source.foreseen)."""
        self._check_begun()
        head = self._cache.head
        if head is not self._cache.root:
            return Foreseen(b"", False)
        path = list(self._known_path(head))
        next_token = self._choose(path[-1] if path else head)
        text = b"".join(self._vocabulary.piece(node.token) for node in path)
        if not self._goes_on(next_token):
            return Foreseen(text, True)
        return Foreseen(text + self._vocabulary.piece(next_token), False)

    def foresee(self, n_tokens: int) -> None:
        """Write ahead (see Source.foresee)."""
        self._check_begun()
        self._cache.settle()
        head = self._cache.head
        *_, node = head, *self._known_path(head)
        for _ in range(min(n_tokens, self._n_left(node))):
            token = self._choose(node)
            if not self._goes_on(token):
                break
            node = self._advance(node, token)

    def confidence(self, start: int) -> float:
        """How sure it is of what it foresees (see Source.confidence)."""
        self._check_begun()
        head = end = self._cache.head
        if head is not self._cache.root:
            return 1.0
        n_bytes, highest = 0, 0.0
        for end in self._known_path(head):
            n_bytes += len(self._vocabulary.piece(end.token))
            if n_bytes > start:
                highest = max(highest, end.nll_nats)
        next_token = self._choose(end)
        if next_token is not None:
            highest = max(highest, end.expected.nll(next_token))
        return math.exp(-highest)

    def preview(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that are likely to come (see Source.preview)."""
        self._check_begun()
        head = self._cache.head
        n_left = max(0, self._n_left(head))
        self._cache.read(
            [(head, self._tokens_ahead(text)[:n_left]) for text in texts], all_rows=True
        )

    @property
    def state_key(self) -> str:
        """Model file, version and shape of the cache (see Keeping.state_key)."""
        return self._loaded.state_key

    def readable(self, prompt: Prompt) -> Readable:
        """What of a prompt it has read (see Keeping.readable)."""
        self._check_open()
        return self._cache.readable(self.prompt_tokens(prompt))

    def keep(self, path: Path, prompt: Prompt) -> list[int]:
        """Write the state behind what it has read of a prompt (see Keeping.keep)."""
        self._check_open()
        self.rollback()
        return self._cache.keep(path, self.prompt_tokens(prompt))

    def restore(self, path: Path) -> int:
        """Take up a state (see Keeping.restore)."""
        self._check_open()
        self.rollback()
        return self._cache.restore(path)

    def rollback(self) -> None:
        """Drop the draft, the scored candidates and what was foreseen."""
        if not self._is_closed:
            self._draft, self._scored = None, {}
            self._cache.drop_all()
            if self._constraint is not None:
                self._constraint.forget()

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response, keep the prompt (see Source.restart)."""
        self._check_begun()
        self._draft, self._scored = None, {}
        self._encoder.reset()
        self._sampler.renew()
        self._cache.restart(keep_response=expect_same)
        if self._constraint is not None:
            self._constraint.restart()

    def close(self) -> None:
        """Give the memory back, that of the other seats, too. May be called twice."""
        for source in self.seats:
            source._closed = True
            source._sampler.close()
            source._constraint = None
            source._cache.close()
        self._loaded.close()

    # ---- The tree

    def _choose(self, node: Node) -> int | None:
        """The token this source would write behind a node; None if a grammar allows none."""
        if self._constraint is None:
            return self._sampler.choose(node.expected, node.position)
        path = self._path(node)
        return self._constraint.choose(path, node.expected, node.position, self._sampler)

    def _path(self, node: Node) -> tuple[int, ...]:
        """The tokens behind the response down to a node."""
        return tuple(n.token for n in node.path_from(self._cache.head))

    def _goes_on(self, token: int | None) -> TypeGuard[int]:
        """Whether a choice is text: no end of the answer, and not the lack of any token."""
        return token is not None and token not in self._end_tokens

    def _advance(self, node: Node, token: int) -> Node:
        """The node of ``token`` behind ``node``, by a forward pass if it is not known."""
        known = self._cache.known(node, token, whole_row=self._wants_rows)
        return known or self._cache.read([(node, [token])])[0]

    def _known_path(self, start: Node) -> Iterator[Node]:
        """The nodes that this source would write behind ``start``, as far as they are known."""
        node: Node | None = start
        while node and self._goes_on(token := self._choose(node)):
            node = self._cache.known(node, token, whole_row=self._wants_rows)
            if node is not None:
                yield node

    def _known_tokens(self) -> Iterator[int]:
        """The tokens it would write behind the response; the last one is not evaluated."""
        head = end = self._cache.head
        if head is self._cache.root:
            for end in self._known_path(head):
                yield end.token
            token = self._choose(end)
            if self._goes_on(token):
                yield token

    def _tokens_ahead(self, text: bytes) -> Sequence[int]:
        """Tokens of ``text`` behind the response; its begin as this source would write it."""
        tokens = self._encoder.encode(text)
        own, rest = [], text
        for token in self._known_tokens():
            piece = self._vocabulary.piece(token)
            if not (piece and rest.startswith(piece)):
                break
            own.append(token)
            rest = rest[len(piece) :]
        if tokens[: len(own)] == tuple(own):
            return tokens
        return [*own, *self._encoder.encode_behind(text[: len(text) - len(rest)], rest)]

    def _n_left(self, node: Node) -> int:
        """Tokens that may be evaluated behind a node."""
        return self.n_ctx - 1 - node.position

    def _read(self, candidates: Iterable[Candidate]) -> None:
        """Evaluate candidates behind the response, as far as their scores need it."""
        ends: list[tuple[Node, bool]] = []
        for candidate in candidates:
            node = self._node(candidate)
            if node is None:
                tokens = self._encoder.encode(candidate.text)
                if not self._cache.fits(len(tokens)):
                    continue
                node = self._scored[candidate.text] = self._cache.head.grow(tokens)
            if candidate.ends or not self._is_own(candidate):
                ends.append((node, candidate.ends))
        self._cache.read_to_score(ends)

    def _is_own(self, candidate: Candidate) -> bool:
        """Whether this is what the source has drafted."""
        draft = self._draft
        return draft is not None and candidate == Candidate(self._text(draft), self._ends(draft))

    def _node(self, candidate: Candidate) -> Node | None:
        """The end of the own draft if it is this very candidate, else of this text as read."""
        if self._draft is not None and self._is_own(candidate):
            return self._draft.end
        return self._scored.get(candidate.text)

    def _score(self, candidate: Candidate) -> Score:
        node = self._node(candidate)
        if node is None:  # it does not fit the context, so it must not win
            return Score(math.inf, 1)
        path = node.path_from(self._cache.head)
        nll_nats, n_terms = sum(n.nll_nats for n in path), len(path)
        if candidate.ends:
            nll_nats += node.expected.nll_of_any(self._vocabulary.end_tokens)
            n_terms += 1
        return Score(nll_nats, n_terms)

    # ---- The draft

    def _as_draft(self, draft: _Draft) -> Draft:
        ends = self._ends(draft)
        return Draft(
            text=self._text(draft),
            ends=ends,
            lookahead=self._lookahead(draft),
            token_ends=self._token_ends(draft),
            is_stuck=draft.next_token is None,
        )

    def _ends(self, draft: _Draft) -> bool:
        return draft.next_token in self._end_tokens

    def _lookahead(self, draft: _Draft) -> bytes:
        """The text of the token that would follow; none for the end."""
        token = draft.next_token
        return self._vocabulary.piece(token) if self._goes_on(token) else b""

    def _text(self, draft: _Draft) -> bytes:
        return self._vocabulary.decode(draft.tokens)

    def _token_ends(self, draft: _Draft) -> tuple[int, ...]:
        return tuple(accumulate(len(self._vocabulary.piece(token)) for token in draft.tokens))

    def _own_draft(self) -> _Draft:
        self._check_begun()
        if self._draft is None:
            raise CfLocalError(f"{self.info.name}: there is no draft to go on with.")
        return self._draft

    @property
    def _is_closed(self) -> bool:
        return self._closed or self._loaded.is_closed

    def _check_open(self) -> None:
        if self._is_closed:
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
                f"a larger context ({name} was trained with {self._loaded.n_ctx_train})."
            )

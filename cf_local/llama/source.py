"""The llama.cpp Source: one GGUF model behind the Source interface.

It joins the parts of this package: text to tokens (``vocabulary``, ``prompt``), tokens to
probabilities (``cache``), the choice of the next token (``author``), and what is made of them: the
own ``draft``, the ``candidates`` of all, and ``foresight``. Here is what they share: when a call
may be made, and what becomes of all parts when the response changes.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Unpack

from cf_local.errors import CfLocalError, ClosedError, ContextError
from cf_local.llama.cache import Cache
from cf_local.llama.candidates import Candidates, OwnDraft
from cf_local.llama.context import Passes
from cf_local.llama.foresight import Foresight
from cf_local.llama.loaded import Loaded
from cf_local.llama.sampler import Author
from cf_local.llama.text import Text
from cf_local.method.costs import PassCosts
from cf_local.method.session import Beginning, Readable
from cf_local.method.tokenization import ContextEncoder
from cf_local.progress import IsCancelled, Progress, drained, never
from cf_local.settings import Sampling
from cf_local.types import Candidate, Counters, Draft, Foreseen, KvType, Prompt, Score, SourceInfo


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
        costs: PassCosts | None = None,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``. ``n_forks`` is how many candidates of others are scored at once.

        ``n_ctx`` is 4096 tokens by default and never more than the model was trained with; each
        of ``n_seats`` conversations has as many. ``template`` replaces the file's chat template.
        ``devices`` are the GPUs for the layers: none for the CPU alone, None for all. ``n_threads``
        None takes what other processes leave; ``costs`` None estimates those of its passes. Raises
        what Loaded raises.
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
            costs=costs,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
        )
        texts: list[Text] = []
        self._sit(loaded, n_forks, 0, texts)
        self._others = tuple(object.__new__(LlamaSource) for _ in range(n_seats - 1))
        for index, other in enumerate(self._others, 1):
            other._sit(loaded, n_forks, index, texts)
            other._others = ()

    def _sit(self, loaded: Loaded, n_forks: int, index: int, texts: list[Text]) -> None:
        """Take a seat of the loaded model; ``texts`` are those of all seats."""
        self._loaded = loaded
        self._vocabulary = loaded.vocabulary
        self.n_ctx = loaded.n_ctx
        self._context = loaded.contexts[index]
        self._passes = Passes(self._context)
        self._text = Text(self._context, self._passes, texts)
        texts.append(self._text)
        self._cache = Cache(self._context, self._passes, self._text, n_forks)
        self._encoder = ContextEncoder(self._vocabulary)
        self._author = Author(self._cache, self._vocabulary)
        self._candidates = Candidates(self._cache, self._encoder, self._vocabulary)
        self._foresight = Foresight(
            self._author, self._cache, self._encoder, self._vocabulary, self.n_ctx
        )
        self._closed = False

    @property
    def info(self) -> SourceInfo:
        """Name, file, context and threads."""
        return self._loaded.info

    @property
    def costs(self) -> PassCosts:
        """Seconds of its forward passes, by their size: known or estimated, and fixed."""
        return self._loaded.costs

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
        return not self._loaded.template.is_plain

    @property
    def n_response_tokens(self) -> int:
        """Tokens of the response so far."""
        return self._cache.n_tokens - self._text.n_prompt

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
        """Tokens of a prompt as ``begin`` would evaluate them."""
        return self._loaded.encode(prompt)

    def continues(self, prompt: Prompt) -> int:
        """Tokens of a prompt that goes on with its own (see Source.continues)."""
        return self._text.n_continued(self.prompt_tokens(prompt))

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
        grammar: str | None = None,
        is_cancelled: IsCancelled = never,
    ) -> Generator[float, None, int]:
        """Evaluate the prompt in parts (see Source.beginning)."""
        self._check_open()
        tokens = self.prompt_tokens(prompt)
        self._loaded.check(prompt, tokens, reserve_tokens)
        self._author.begin(sampling, grammar)
        self._passes.is_cancelled = is_cancelled
        self.rollback()
        self._encoder.reset()
        self._loaded.settle_in()
        yield from self._cache.reading(
            tokens,
            is_lazy=speculates and self.can_foresee,
            revisits=revisits and self.can_foresee,
        )
        return len(tokens)

    def draft(self, limit: int) -> Draft:
        """Write to the next word boundary (see Source.draft)."""
        self._check_begun()
        self._cache.settle()
        self._candidates.own = OwnDraft(self._cache.head, self._author, self._vocabulary)
        return self.extend(limit)

    def extend(self, limit: int) -> Draft:
        """Go on with the draft to its next word boundary (see Source.extend)."""
        draft = self._own_draft()
        draft.extend(limit)
        return draft.told()

    def trim(self, n_bytes: int) -> Draft:
        """Cut the draft behind one of its tokens (see Source.trim)."""
        draft = self._own_draft()
        draft.trim(n_bytes)
        return draft.told()

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
        return self._candidates.score(candidates)

    def commit(self, candidate: Candidate) -> None:
        """Append a candidate to the response (see Source.commit)."""
        self._check_begun()
        node = self._candidates.find(candidate)
        if node is None:
            raise ContextError(
                f"{self.info.name}: its context of {self.n_ctx} tokens is full. "
                "Choose a larger one."
            )
        self._author.follow(node, is_own=self._candidates.is_own(candidate))
        self._cache.commit(node)
        self._encoder.append(candidate.text)
        self._candidates.drop()

    @property
    def can_foresee(self) -> bool:
        """Whether text can be evaluated before it is drafted (see Source.can_foresee)."""
        return self._context.sequences.can_share

    def foreseen(self) -> Foreseen:
        """What is known of the next draft (see Source.foreseen)."""
        self._check_begun()
        return self._foresight.foreseen()

    def foresee(self, n_tokens: int) -> None:
        """Write ahead (see Source.foresee)."""
        self._check_begun()
        self._foresight.foresee(n_tokens)

    def confidence(self, start: int) -> float:
        """How sure it is of what it foresees (see Source.confidence)."""
        self._check_begun()
        return self._foresight.confidence(start)

    def preview(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that are likely to come (see Source.preview)."""
        self._check_begun()
        self._foresight.preview(texts)

    @property
    def state_key(self) -> str:
        """Model file, version and shape of the cache (see Keeping.state_key)."""
        return self._loaded.state_key

    def readable(self, prompt: Prompt) -> Readable:
        """What of a prompt it has read (see Keeping.readable)."""
        self._check_open()
        return self._text.readable(self.prompt_tokens(prompt))

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
            self._candidates.drop()
            self._cache.drop_all()
            self._author.forget()

    def restart(self, *, expect_same: bool = False) -> None:
        """Drop the response, keep the prompt (see Source.restart)."""
        self._check_begun()
        self._candidates.drop()
        self._encoder.reset()
        self._cache.restart(keep_response=expect_same)
        self._author.restart()

    def close(self) -> None:
        """Give the memory back, that of the other seats, too. May be called twice."""
        for source in self.seats:
            source._closed = True
            source._author.close()
            source._cache.close()
        self._loaded.close()

    def _own_draft(self) -> OwnDraft:
        self._check_begun()
        if self._candidates.own is None:
            raise CfLocalError(f"{self.info.name}: there is no draft to go on with.")
        return self._candidates.own

    @property
    def _is_closed(self) -> bool:
        return self._closed or self._loaded.is_closed

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"{self.info.name} has been closed.")

    def _check_begun(self) -> None:
        self._check_open()
        if not self._text.n_prompt:
            raise CfLocalError(f"{self.info.name}: begin() with a prompt comes first.")

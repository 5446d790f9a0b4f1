"""A model that is loaded: its vocabulary, its chat template, a context for each of its seats."""

from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import ContextError, InputError
from cf_local.llama.context import Context
from cf_local.llama.library import llama_cpp
from cf_local.llama.model import Model
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.state_key import identity_of, key_of
from cf_local.llama.threads import CORES, n_usable_cores
from cf_local.llama.tree import n_cells, n_sequences
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.costs import PassCosts
from cf_local.planning.plan import DEFAULT_CONTEXT
from cf_local.progress import IsCancelled, Progress
from cf_local.types import KvType, Prompt, RawText, SourceInfo

_TINY_BYTES = 32_000_000


class Loaded:
    """What all seats of one model have in common. Not thread-safe."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        n_ctx: int | None,
        n_forks: int,
        n_seats: int,
        n_threads: int | None,
        n_gpu_layers: int,
        devices: Sequence[str] | None,
        kv_type: KvType,
        template: str | None,
        costs: PassCosts | None,
        is_cancelled: IsCancelled,
        on_progress: Progress | None,
    ) -> None:
        """Load ``path`` for ``n_seats`` conversations of ``n_ctx`` tokens each.

        Each can score ``n_forks`` candidates at once. Raises InputError for less than one seat, and
        what Model and Context raise.
        """
        if n_seats < 1:
            raise InputError(f"{n_seats} conversations at once: there must be at least 1.")
        self.is_closed = False
        self.contexts: list[Context] = []
        CORES.look()
        self._model = Model(
            path,
            n_gpu_layers=n_gpu_layers,
            devices=devices,
            is_cancelled=is_cancelled,
            on_progress=on_progress,
        )
        try:
            identity = identity_of(path)  # now: the file may be replaced while the model is loaded
            self.vocabulary = LlamaVocabulary(self._model)
            self.template = self._template(template, name)
            self.n_ctx_train = self._model.n_ctx_train
            self.n_ctx = min(n_ctx or DEFAULT_CONTEXT, self.n_ctx_train)
            gives_way = n_threads is None
            n_threads = n_threads or threads_for(path)
            for _ in range(n_seats):
                self.contexts.append(
                    Context(
                        self._model,
                        n_cells=n_cells(self.n_ctx, n_forks),
                        n_sequences=n_sequences(n_forks),
                        n_threads=n_threads,
                        gives_way=gives_way,
                        kv_type=kv_type,
                    )
                )
        except BaseException:
            self.close()
            raise
        thinks = self.template.opens_thinking()
        self.costs = costs or self._model.costs
        self.info = SourceInfo(name, str(path), self.n_ctx, n_threads, thinks)
        self.state_key = key_of(identity, self._kind(kv_type))
        self._last_prompt: tuple[Prompt, list[int]] | None = None

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt; of the last one they are known, as several seats may ask."""
        if self._last_prompt is None or self._last_prompt[0] != prompt:
            self._last_prompt = prompt, encode_prompt(prompt, self.template, self.vocabulary)
        return list(self._last_prompt[1])

    def check(self, prompt: Prompt, tokens: Sequence[int], reserve_tokens: int) -> None:
        """Raise InputError for an empty prompt, ContextError if it leaves too little room."""
        name = self.info.name
        if not tokens or prompt == RawText(""):
            raise InputError(f"{name}: the prompt is empty.")
        if len(tokens) + reserve_tokens > self.n_ctx:
            raise ContextError(
                f"{name}: the prompt has {len(tokens)} tokens and {reserve_tokens} must be left "
                f"for the answer, but the context holds {self.n_ctx}. Shorten the prompt or choose "
                f"a larger context ({name} was trained with {self.n_ctx_train})."
            )

    def settle_in(self) -> None:
        """Compute in this thread (see Threads.settle_in)."""
        for context in self.contexts:
            context.threads.settle_in()

    def close(self) -> None:
        """Give the memory back. May be called twice."""
        if not self.is_closed:
            self.is_closed = True
            for context in self.contexts:
                context.close()
            self._model.close()

    def _template(self, given: str | None, name: str) -> ChatTemplate:
        text = given or self._model.metadata("tokenizer.chat_template")
        return ChatTemplate(text, self.vocabulary, name)

    def _kind(self, kv_type: KvType) -> str:
        """What besides the file a kept state depends on."""
        # Flash attention, which is for GPUs, lays the cache out otherwise.
        device = "gpu" if self._model.is_on_gpu else "cpu"
        return f"llama-cpp-python {llama_cpp.__version__}, {self.n_ctx}, {kv_type}, {device}"


def threads_for(path: Path) -> int:
    """All cores, but one for a tiny model: its passes are shorter than waiting for each other.

    On a busy machine that wait made the built-in models ten times slower (docs/LOG.md).
    """
    return 1 if path.stat().st_size < _TINY_BYTES else n_usable_cores()

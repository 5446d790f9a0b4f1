"""A loaded GGUF model as a Source of fusions."""

from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import InputError
from cf_local.llama.committed import CommittedText
from cf_local.llama.context import Context
from cf_local.llama.library import llama_cpp
from cf_local.llama.load_work import LoadWork
from cf_local.llama.room import check_room
from cf_local.llama.session import LlamaSession
from cf_local.llama.state_key import key_of
from cf_local.llama.texts import LlamaTexts
from cf_local.llama.threads import CORES, check_threads, threads_for
from cf_local.llama.tree import n_cells, n_sequences
from cf_local.llama.weights import Weights
from cf_local.method.costs import PassCosts
from cf_local.planning.plan import DEFAULT_CONTEXT
from cf_local.progress import IsCancelled, Progress, never
from cf_local.types import KvType, Prompt, SourceInfo


class LlamaSource(LlamaTexts):
    """One GGUF model and its sessions. Not thread-safe."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        n_ctx: int | None = None,
        n_forks: int = 4,
        n_sessions: int = 1,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        devices: Sequence[str] | None = None,
        split: Sequence[int] = (),
        kv_type: KvType = "f16",
        template: str | None = None,
        costs: PassCosts | None = None,
        work: LoadWork | None = None,
        is_cancelled: IsCancelled = never,
        on_progress: Progress | None = None,
    ) -> None:
        """Load ``path``; ``n_forks`` is how many candidates of other sources are scored at once.

        ``n_ctx`` is 4096 tokens by default and never more than the model was trained with; each
        of ``n_sessions`` conversations has that many. ``template`` replaces the file's chat
        template. ``devices`` are the GPUs for the layers: empty for the CPU alone, None for all;
        ``split`` says how many each gets, else it depends on their free memory.
        ``n_threads`` None uses the cores that other processes leave free; ``costs`` None estimates
        the costs of its passes. ``on_progress`` receives the share of the ``work`` that is done;
        None estimates that, too.

        Raises InputError for less than one session, or threads that ggml cannot have, and what
        LlamaModel and Context raise.
        """
        if n_sessions < 1:
            raise InputError(f"{n_sessions} conversations at once: choose at least 1.")
        check_threads(n_threads)
        self.is_closed = False
        self.sessions: list[LlamaSession] = []
        self._contexts: list[Context] = []
        CORES.look()
        work = work or LoadWork.of(path, n_contexts=n_sessions)
        report = on_progress or (lambda _share: None)
        self._weights = Weights(
            path,
            n_gpu_layers=n_gpu_layers,
            devices=devices,
            split=split,
            is_cancelled=is_cancelled,
            on_read=lambda share: report(work.progress(share, 0, 0, 0)),
            # llama.cpp reads the vocabulary before it reports anything.
            on_progress=lambda share: report(work.progress(1, 1, share, 0)),
        )
        try:
            self._model = self._weights.model
            super().__init__(name, self._model, template)
            self.n_ctx_train = self._model.n_ctx_train
            self.n_ctx = min(n_ctx or DEFAULT_CONTEXT, self.n_ctx_train)
            gives_way = n_threads is None
            n_threads = n_threads or threads_for(path)
            texts: list[CommittedText] = []
            for n_open in range(1, n_sessions + 1):
                context = self._opened_context(n_forks, n_threads, gives_way, kv_type)
                self.sessions.append(LlamaSession(self, context, n_forks, texts))
                report(work.progress(1, 1, 1, n_open / n_sessions))
        except BaseException:
            self.close()
            raise
        self.costs = costs or self._model.costs
        self.info = SourceInfo(
            name,
            str(path),
            self.n_ctx,
            n_threads,
            self._model.n_parameters,
            self.template.opens_thinking(),
            self.template.tool_form,
        )
        self.state_key = key_of(self._weights.identity, self._kind(kv_type))

    def _opened_context(
        self, n_forks: int, n_threads: int, gives_way: bool, kv_type: KvType
    ) -> Context:
        context = Context(
            self._model,
            n_cells=n_cells(self.n_ctx, n_forks),
            n_sequences=n_sequences(n_forks),
            n_threads=n_threads,
            gives_way=gives_way,
            kv_type=kv_type,
        )
        self._contexts.append(context)
        return context

    def check(self, prompt: Prompt, tokens: Sequence[int], reserve_tokens: int) -> None:
        """Raise InputError for an empty prompt, ContextError if it leaves too little room."""
        check_room(
            self.info.name,
            prompt,
            tokens,
            n_reserved=reserve_tokens,
            n_ctx=self.n_ctx,
            n_ctx_train=self.n_ctx_train,
        )

    def settle_in(self) -> None:
        """Compute in this thread (see Threads.settle_in)."""
        for context in self._contexts:
            context.threads.settle_in()

    def time_pass(self, n_tokens: int) -> float:
        """Seconds of a forward pass over ``n_tokens``, while no answer is written.

        Changes nothing of what was read.
        """
        return self.sessions[0].time_pass(n_tokens)

    def close(self) -> None:
        """Free the memory of all sessions, and the weights unless others use them.

        May be called twice.
        """
        if self.is_closed:
            return
        self.is_closed = True
        for session in self.sessions:
            session.end()
        self.sessions = []  # breaks a reference cycle: memory is freed without a collection
        for context in self._contexts:
            context.close()
        self._weights.close()

    def _kind(self, kv_type: KvType) -> str:
        """What a saved state depends on, besides the file."""
        # Flash attention, which only GPUs use, has another cache layout.
        device = "gpu" if self._model.is_on_gpu else "cpu"
        return f"llama-cpp-python {llama_cpp.__version__}, {self.n_ctx}, {kv_type}, {device}"

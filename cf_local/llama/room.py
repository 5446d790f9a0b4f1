"""Whether a prompt leaves room for an answer: in a loaded model, and in one that is yet to load."""

from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import ContextError, InputError
from cf_local.llama.model import LlamaModel
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.types import Infill, Prompt, RawText


def check_room(
    name: str,
    prompt: Prompt,
    tokens: Sequence[int],
    *,
    n_reserved: int,
    n_ctx: int,
    n_ctx_train: int,
) -> None:
    """Raise InputError for an empty prompt, ContextError if it leaves too little room."""
    if not tokens or prompt in (RawText(""), Infill("", "")):
        raise InputError(f"{name}: the prompt is empty.")
    if len(tokens) + n_reserved > n_ctx:
        raise ContextError(
            f"{name}: the prompt has {len(tokens)} tokens and {n_reserved} must be left "
            f"for the answer, but the context holds {n_ctx}. Shorten the prompt or choose "
            f"a larger context ({name} was trained with {n_ctx_train})."
        )


def check_before_load(
    name: str, path: Path, prompt: Prompt, *, n_reserved: int, n_ctx: int, template: str | None
) -> None:
    """The same for a model whose vocabulary alone is loaded, which takes part of a second.

    ``template`` replaces the file's chat template. Raises what LlamaModel raises, too.
    """
    model = LlamaModel(path, n_gpu_layers=0, vocab_only=True)
    try:
        vocabulary = LlamaVocabulary(model)
        chat = ChatTemplate(template or model.metadata("tokenizer.chat_template"), vocabulary, name)
        n_ctx_train = model.n_ctx_train or n_ctx  # what the header lacks, the load reports
        check_room(
            name,
            prompt,
            encode_prompt(prompt, chat, vocabulary),
            n_reserved=n_reserved,
            n_ctx=min(n_ctx, n_ctx_train),
            n_ctx_train=n_ctx_train,
        )
    finally:
        model.close()

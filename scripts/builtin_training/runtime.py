"""llama.cpp as the runtime uses it: tokenize fragments, render prompts, answer greedily."""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from pathlib import Path

import jinja2
import llama_cpp.llama_cpp as llama
import numpy as np

from .sources import Source

Message = dict[str, str]
_quiet = llama.llama_log_callback(lambda level, text, user_data: None)


def render(source: Source, messages: list[Message], prompt: bool) -> str:
    """The conversation in the source's chat template; ``prompt`` opens the assistant's turn."""
    return _template(source.template).render(
        messages=messages,
        bos_token=source.bos or "",
        eos_token=source.eos,
        add_generation_prompt=prompt,
    )


@lru_cache
def _template(text: str) -> jinja2.Template:
    return jinja2.Environment(keep_trailing_newline=True).from_string(text)


class Runtime:
    """One GGUF file opened by llama.cpp; with ``vocab_only`` it tokenizes and nothing else."""

    def __init__(self, path: Path, source: Source, vocab_only: bool = False) -> None:
        llama.llama_log_set(_quiet, ctypes.c_void_p())
        settings = llama.llama_model_default_params()
        settings.vocab_only = vocab_only
        self.source = source
        self._model = llama.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self._vocab = llama.llama_model_get_vocab(self._model)
        self.n_vocab = llama.llama_vocab_n_tokens(self._vocab)
        self._pieces = [self._piece(token) for token in range(self.n_vocab)]
        self._context = None if vocab_only else self._open_context()
        self._controls = {name: self._control_id(name) for name in source.controls}
        self._splitter = re.compile(
            "(" + "|".join(re.escape(name) for name in source.controls) + ")"
        )

    def close(self) -> None:
        """Free what llama.cpp holds."""
        if self._context:
            llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    def _open_context(self) -> llama.llama_context_p:
        settings = llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
        settings.n_threads = settings.n_threads_batch = 1
        return llama.llama_init_from_model(self._model, settings)

    def _control_id(self, name: str) -> int:
        ids = self._tokenize(name.encode(), parse_special=True)
        if self.source.tokenizer == "spm":
            ids = [i for i in ids if llama.llama_vocab_is_control(self._vocab, i)] or ids
        if len(ids) != 1:
            raise ValueError(f"{name} is not one token of {self.source.name}: {ids}")
        return ids[0]

    def encode(self, text: str) -> list[int]:
        """Tokens of one fragment of plain text: nothing added, special tokens not recognized."""
        return self._tokenize(text.encode(), parse_special=False)

    def _tokenize(self, text: bytes, parse_special: bool) -> list[int]:
        room = len(text) + 8
        buffer = (llama.llama_token * room)()
        n = llama.llama_tokenize(self._vocab, text, len(text), buffer, room, False, parse_special)
        if n < 0:
            raise RuntimeError(f"llama_tokenize needs {-n} tokens of room, has {room}")
        return list(buffer[:n])

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``; llama_detokenize would drop blanks before punctuation."""
        return b"".join(self._pieces[token] for token in ids).decode(errors="replace")

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        n = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(n, 0)]

    def encode_rendered(self, text: str) -> list[int]:
        """Tokens of rendered template text: each fragment between control tokens on its own."""
        found: list[int] = []
        for piece in self._splitter.split(text):
            if piece:
                found += [self._controls[piece]] if piece in self._controls else self.encode(piece)
        return found

    def encode_response(self, prompt: str, response: str) -> list[int]:
        """Tokens of ``response`` right after a rendered ``prompt``, with no space prefix."""
        tail = self._splitter.split(prompt)[-1]
        tail_ids, both = self.encode(tail), self.encode(tail + response)
        if both[: len(tail_ids)] != tail_ids:
            raise ValueError(f"{self.source.name}: {tail!r} and {response!r} share a token")
        return both[len(tail_ids) :]

    def is_end(self, token: int) -> bool:
        """Whether ``token`` ends an answer."""
        return bool(llama.llama_vocab_is_eog(self._vocab, token))

    def control(self, name: str) -> int:
        """The id of a control token."""
        return self._controls[name]

    def logits_after(self, tokens: list[int], start: int) -> np.ndarray:
        """Feed ``tokens`` from position ``start``; the last logits: (n_vocab,) float32."""
        memory = llama.llama_get_memory(self._context)
        if start == 0:
            llama.llama_memory_clear(memory, True)
        array = (llama.llama_token * len(tokens))(*tokens)
        if llama.llama_decode(self._context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        logits = llama.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.n_vocab,)).copy()

    def answer(self, messages: list[Message], max_tokens: int = 120) -> str:
        """The greedy answer to a conversation."""
        tokens = self.encode_rendered(render(self.source, messages, prompt=True))
        return self.decode(self.continue_greedily(tokens, max_tokens))

    def continue_greedily(self, tokens: list[int], max_tokens: int) -> list[int]:
        """The argmax tokens that follow ``tokens``, up to the end of the answer."""
        found: list[int] = []
        logits = self.logits_after(tokens, 0)
        while len(found) < max_tokens and not self.is_end(best := int(logits.argmax())):
            found.append(best)
            logits = self.logits_after([best], len(tokens) + len(found) - 1)
        return found

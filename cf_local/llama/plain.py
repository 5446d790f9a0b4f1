"""One model in plain llama-cpp-python, as a user would write it: the baseline of the bench."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cf_local.llama.library import llama_cpp
from cf_local.types import Chat


class PlainModel:
    """Greedy chat completion with the high-level API."""

    def __init__(self, path: Path, *, n_ctx: int, n_threads: int) -> None:
        self._llama = llama_cpp.Llama(
            str(path), n_ctx=n_ctx, n_threads=n_threads, n_threads_batch=n_threads, verbose=False
        )

    def answer(self, prompt: Chat, max_tokens: int) -> tuple[str, float, float]:
        """The answer, the seconds to its first piece, and the seconds from there to its end."""
        start = time.perf_counter()
        pieces: list[tuple[float, str]] = []
        for piece in self._stream(prompt, max_tokens):
            pieces.append((time.perf_counter(), piece))
        if not pieces:
            return "", time.perf_counter() - start, 0.0
        first = pieces[0][0]
        return "".join(text for _, text in pieces), first - start, pieces[-1][0] - first

    def close(self) -> None:
        """Free the memory."""
        self._llama.close()

    def _stream(self, prompt: Chat, max_tokens: int) -> Iterator[str]:
        turns: Any = [{"role": m.role, "content": m.content} for m in prompt.messages]
        stream = self._llama.create_chat_completion(
            turns, temperature=0, max_tokens=max_tokens, stream=True, repeat_penalty=1.0
        )
        for chunk in cast(Iterator[dict[str, Any]], stream):
            text = chunk["choices"][0]["delta"].get("content")
            if text:
                yield text

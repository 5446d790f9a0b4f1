"""What a GGUF file says of texts without its weights: tokens, words, and the chat template."""

from collections.abc import Sequence
from pathlib import Path

from cf_local.errors import ClosedError
from cf_local.llama.model import LlamaModel
from cf_local.llama.prompt import ChatTemplate, encode_prompt
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.types import Prompt, RawText, Tokens


class LlamaTexts:
    """The vocabulary and the chat template of a model that stays open."""

    def __init__(self, name: str, model: LlamaModel, template: str | None) -> None:
        """``template`` replaces the file's chat template."""
        self.is_closed = False
        self._name = name
        self.vocabulary = LlamaVocabulary(model)
        text = template or model.metadata("tokenizer.chat_template")
        self.template = ChatTemplate(text, self.vocabulary, name)
        self._last_prompt: tuple[Prompt, list[int]] | None = None

    @property
    def has_template(self) -> bool:
        """False when the file has no chat template and "User: / Assistant:" is used."""
        return not self.template.is_plain

    def encode(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt; those of the last one are cached, as several sessions may ask."""
        if self._last_prompt is None or self._last_prompt[0] != prompt:
            self._last_prompt = prompt, encode_prompt(prompt, self.template, self.vocabulary)
        return list(self._last_prompt[1])

    def joins(self, char: str) -> frozenset[str]:
        """What follows ``char`` within a token (see Source.joins)."""
        return self.vocabulary.word_starts.joins(char)

    def n_tokens(self, text: str) -> int:
        """Tokens of a text on its own (see Source.n_tokens)."""
        self._check_open()
        return len(self.vocabulary.encode(text.encode()))

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """The names of the tokens that begin and end a text (see OwnTokens.bounds)."""
        names = map(self.vocabulary.text, (self.vocabulary.bos_token, self.vocabulary.eos_token))
        bos, eos = (name or None for name in names)
        return bos, eos

    def tokenize(self, text: str, *, adds_bos: bool) -> list[int]:
        """The tokens of a raw text (see OwnTokens.tokenize)."""
        self._check_open()
        special = self.vocabulary.special_token(text)
        if special is not None:
            return [special]
        tokens = encode_prompt(RawText(text), self.template, self.vocabulary)
        return tokens if adds_bos else tokens[self.n_bos :]

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The text of tokens (see OwnTokens.detokenize)."""
        self._check_open()
        ids = encode_prompt(Tokens(tuple(tokens)), self.template, self.vocabulary)
        text = self.vocabulary.decode(ids)
        first = next((piece for piece in map(self.vocabulary.piece, ids) if piece), b"")
        return text[1:] if self.vocabulary.adds_space and first.startswith(b" ") else text

    @property
    def n_bos(self) -> int:
        """Tokens that are read before those of a raw text."""
        return int(self.vocabulary.adds_bos and self.vocabulary.bos_token is not None)

    def n_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt (see Source.n_prompt_tokens)."""
        return len(self.encode(prompt))

    def _check_open(self) -> None:
        if self.is_closed:
            raise ClosedError(f"{self._name} has been closed.")


class VocabularyCopy(LlamaTexts):
    """The same without the weights, which another process has loaded."""

    def __init__(self, name: str, path: Path, template: str | None = None) -> None:
        """Raises what LlamaModel raises."""
        self._model = LlamaModel(path, n_gpu_layers=0, vocab_only=True)
        try:
            super().__init__(name, self._model, template)
        except BaseException:
            self._model.close()
            raise

    def close(self) -> None:
        """Free the memory. May be called twice."""
        self.is_closed = True
        self._model.close()

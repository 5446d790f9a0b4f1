"""Text expected after the response: as the source would write it, or as others may.

It is read before it is drafted or scored, in as few passes as possible, and changes neither (see
``docs/speed.md``).
"""

import math
from collections.abc import Iterator, Sequence

from cf_local.llama.cache import Cache
from cf_local.llama.sampler import TokenChooser
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.tokenization import ContextEncoder
from cf_local.types import KnownText


class LlamaLookahead:
    """Looks ahead of the response in one cache, up to ``n_ctx`` tokens with the prompt."""

    def __init__(
        self,
        chooser: TokenChooser,
        cache: Cache,
        encoder: ContextEncoder,
        vocabulary: LlamaVocabulary,
        n_ctx: int,
    ) -> None:
        self._chooser, self._cache = chooser, cache
        self._encoder, self._vocabulary = encoder, vocabulary
        self._n_ctx = n_ctx

    def known(self, after: bytes = b"") -> KnownText:
        """What is known of the next draft without a pass."""
        start = self._node_after(after)
        if start is None:
            return KnownText(b"", False)
        path = list(self._chooser.known_path(start))
        next_token = self._chooser.choose(path[-1] if path else start)
        text = b"".join(self._vocabulary.piece(node.token) for node in path)
        if not self._chooser.goes_on(next_token):
            return KnownText(text, True)
        return KnownText(text + self._vocabulary.piece(next_token), False)

    def extend(self, n_tokens: int, after: bytes = b"") -> None:
        """Write up to ``n_tokens`` further ahead, once ``after`` has been read."""
        start = self._node_after(after)
        if start is None:
            head = self._cache.head
            tokens = self._tokens_ahead(after)
            if len(tokens) < self._n_left(head):
                self._cache.read([(head, tokens)], all_rows=True)
            return
        *_, node = start, *self._chooser.known_path(start)
        for _ in range(min(n_tokens, self._n_left(node))):
            token = self._chooser.choose(node)
            if not self._chooser.goes_on(token):
                break
            node = self._chooser.advance(node, token)

    def confidence(self, start: int, after: bytes = b"") -> float:
        """The lowest probability of a token of the known text after byte ``start``."""
        end = self._node_after(after)
        if end is None:
            return 1.0
        n_bytes, highest = 0, 0.0
        for node in self._chooser.known_path(end):
            end = node
            n_bytes += len(self._vocabulary.piece(end.token))
            if n_bytes > start:
                highest = max(highest, end.nll_nats)
        next_token = self._chooser.choose(end)
        if next_token is not None:
            highest = max(highest, end.expected.nll(next_token))
        return math.exp(-highest)

    def prefetch(self, texts: Sequence[bytes]) -> None:
        """Evaluate texts that may follow the response, in one pass."""
        head = self._cache.head
        n_left = max(0, self._n_left(head))
        self._cache.read(
            [(head, self._tokens_ahead(text)[:n_left]) for text in texts], all_rows=True
        )

    def _node_after(self, text: bytes) -> Node | None:
        """The node after the response and ``text``; None if that was not read."""
        head = self._cache.head
        if head is not self._cache.root:
            return None
        node: Node | None = head
        for token in self._tokens_ahead(text) if text else ():
            node = node and self._chooser.known(node, token)
        return node

    def _known_tokens(self) -> Iterator[int]:
        """The tokens it would write after the response; the last one is not evaluated."""
        head = end = self._cache.head
        if head is self._cache.root:
            for end in self._chooser.known_path(head):
                yield end.token
            token = self._chooser.choose(end)
            if self._chooser.goes_on(token):
                yield token

    def _tokens_ahead(self, text: bytes) -> Sequence[int]:
        """Tokens of ``text`` after the response; its start as the session would write it."""
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
        return [*own, *self._encoder.encode_after(text[: len(text) - len(rest)], rest)]

    def _n_left(self, node: Node) -> int:
        """Tokens that may be evaluated after a node."""
        return self._n_ctx - 1 - node.position

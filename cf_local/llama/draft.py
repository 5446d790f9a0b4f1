"""A draft of one source, token by token: written to a word boundary, extended, cut."""

from itertools import accumulate
from statistics import fmean

from cf_local.llama.author import Author
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.boundary import is_word_boundary
from cf_local.types import Candidate, Draft


class OwnDraft:
    """What the author would write behind ``start``; the next token is chosen, not evaluated.

    There is no next token where a grammar allows none.
    """

    def __init__(self, start: Node, author: Author, vocabulary: LlamaVocabulary) -> None:
        """A draft without a token yet; what follows ``start`` must be known."""
        self._author, self._vocabulary = author, vocabulary
        self._start = start
        self._nodes: list[Node] = []
        self._next_token = author.choose(start)

    @property
    def end(self) -> Node:
        """The last node."""
        return self._nodes[-1] if self._nodes else self._start

    @property
    def candidate(self) -> Candidate:
        """Its text, and whether the answer ends there."""
        return Candidate(self._text, self._ends)

    @property
    def entropy_nats(self) -> float:
        """Mean entropy of its choices, that of the end included if it ends."""
        nodes = self._nodes if self._ends else self._nodes[:-1]
        return fmean(node.expected.entropy_nats for node in [self._start, *nodes])

    def extend(self, limit: int) -> None:
        """Go on by at least a token, to the next word boundary or ``limit`` tokens in all."""
        text = self._text
        while self._author.goes_on(self._next_token) and len(self._nodes) < limit:
            node = self._author.advance(self.end, self._next_token)
            self._nodes.append(node)
            text += self._vocabulary.piece(node.token)
            self._next_token = self._author.choose(node)
            if is_word_boundary(text, self._lookahead):
                break

    def trim(self, n_bytes: int) -> None:
        """Cut it behind the token that ends at ``n_bytes``."""
        n_kept = 1 + self._token_ends.index(n_bytes)
        if n_kept < len(self._nodes):
            self._next_token = self._nodes[n_kept].token
            del self._nodes[n_kept:]

    def told(self) -> Draft:
        """It as the engine sees it: without tokens."""
        return Draft(
            text=self._text,
            ends=self._ends,
            lookahead=self._lookahead,
            token_ends=self._token_ends,
            is_stuck=self._next_token is None,
        )

    @property
    def _text(self) -> bytes:
        return self._vocabulary.decode([node.token for node in self._nodes])

    @property
    def _ends(self) -> bool:
        return self._author.ends(self._next_token)

    @property
    def _lookahead(self) -> bytes:
        """The text of the token that would follow; none for the end."""
        token = self._next_token
        return self._vocabulary.piece(token) if self._author.goes_on(token) else b""

    @property
    def _token_ends(self) -> tuple[int, ...]:
        return tuple(accumulate(len(self._vocabulary.piece(node.token)) for node in self._nodes))

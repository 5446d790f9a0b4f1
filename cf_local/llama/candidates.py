"""The texts that are compared behind the response: the own draft, and those of others."""

import math
from collections.abc import Iterable, Sequence

from cf_local.llama.cache import Cache
from cf_local.llama.draft import OwnDraft
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.tokenization import ContextEncoder
from cf_local.types import Candidate, Score


class Candidates:
    """Finds the node at which a candidate ends, reading it if need be, and scores it there.

    The own draft is read in the very tokens it was written in, other text as this vocabulary
    divides it.
    """

    def __init__(self, cache: Cache, encoder: ContextEncoder, vocabulary: LlamaVocabulary) -> None:
        self._cache, self._encoder, self._vocabulary = cache, encoder, vocabulary
        self._scored: dict[bytes, Node] = {}
        self.own: OwnDraft | None = None

    def drop(self) -> None:
        """Forget the own draft and all others."""
        self.own, self._scored = None, {}

    def is_own(self, candidate: Candidate) -> bool:
        """Whether this is what the source has drafted."""
        return self.own is not None and candidate == self.own.candidate

    def find(self, candidate: Candidate) -> Node | None:
        """The end of a candidate; None if it does not fit the context."""
        if self._node(candidate) is None:
            self._read([candidate])
        return self._node(candidate)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Negative log-likelihood of each; one pass for all that were not read before."""
        self._read(candidates)
        return [self._score(candidate) for candidate in candidates]

    def _node(self, candidate: Candidate) -> Node | None:
        """The end of the own draft if it is this very candidate, else of this text as read."""
        if self.own is not None and self.is_own(candidate):
            return self.own.end
        return self._scored.get(candidate.text)

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
            if candidate.ends or not self.is_own(candidate):
                ends.append((node, candidate.ends))
        self._cache.read_to_score(ends)

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

"""What a source would write itself: its sampler and its grammar choose, token by token.

Left out: how far it writes (``draft``, ``foresight``).
"""

from collections.abc import Iterator
from typing import TypeGuard

from cf_local.llama.cache import Cache
from cf_local.llama.constraint import Constraint
from cf_local.llama.sampler import Sampler
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.types import Sampling


class Author:
    """Chooses tokens behind the response, and has the cache read what it chose."""

    def __init__(self, cache: Cache, vocabulary: LlamaVocabulary) -> None:
        """Greedy and without a grammar until ``begin``."""
        self._cache = cache
        self._vocabulary = vocabulary
        self._end_tokens = vocabulary.end_token_set
        self._sampler = Sampler(Sampling(), vocabulary.n_tokens)
        self._constraint: Constraint | None = None
        self._wants_rows = False  # whether the likeliest token alone does not say what is chosen

    def begin(self, sampling: Sampling, grammar: str | None) -> None:
        """Write another answer; raises InputError for a grammar that llama.cpp cannot read."""
        self._sampler.close()
        self._sampler = Sampler(sampling, self._vocabulary.n_tokens)
        self._constraint = Constraint(self._vocabulary, grammar) if grammar else None
        self._wants_rows = grammar is not None or not self._sampler.is_greedy

    def choose(self, node: Node) -> int | None:
        """The token it would write behind a node; None if a grammar allows none."""
        if self._constraint is None:
            return self._sampler.choose(node.expected, node.position)
        path = self._path(node)
        return self._constraint.choose(path, node.expected, node.position, self._sampler)

    def goes_on(self, token: int | None) -> TypeGuard[int]:
        """Whether a choice is text: no end of the answer, and not the lack of any token."""
        return token is not None and token not in self._end_tokens

    def ends(self, token: int | None) -> bool:
        """Whether a choice ends the answer."""
        return token in self._end_tokens

    def advance(self, node: Node, token: int) -> Node:
        """The node of ``token`` behind ``node``, by a forward pass if it is not known."""
        known = self._cache.known(node, token, whole_row=self._wants_rows)
        return known or self._cache.read([(node, [token])])[0]

    def known_path(self, start: Node) -> Iterator[Node]:
        """The nodes that it would write behind ``start``, as far as they are known."""
        node: Node | None = start
        while node and self.goes_on(token := self.choose(node)):
            node = self._cache.known(node, token, whole_row=self._wants_rows)
            if node is not None:
                yield node

    def follow(self, node: Node, *, is_own: bool) -> None:
        """Go on behind ``node``, before the cache commits it; ``is_own`` if it is its own draft."""
        if not is_own:
            self._sampler.renew()  # what it drew for its own draft had a part in this choice
        if self._constraint is not None:
            self._constraint.commit(self._path(node))

    def forget(self) -> None:
        """Drop what it chose behind the response."""
        if self._constraint is not None:
            self._constraint.forget()

    def restart(self) -> None:
        """Go on behind the prompt again."""
        self._sampler.renew()
        if self._constraint is not None:
            self._constraint.restart()

    def close(self) -> None:
        """Free sampler and grammar. May be called twice."""
        self._sampler.close()
        self._constraint = None

    def _path(self, node: Node) -> tuple[int, ...]:
        """The tokens behind the response down to a node."""
        return tuple(n.token for n in node.path_from(self._cache.head))

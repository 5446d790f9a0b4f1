"""The texts that compete to follow the response: the session's own draft, and those of others."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from cf_local.llama.cache import Cache
from cf_local.llama.sampler import TokenChooser
from cf_local.llama.tree import Node
from cf_local.llama.vocabulary import LlamaVocabulary
from cf_local.method.boundary import is_word_boundary, last_character
from cf_local.method.session import Joins, Others
from cf_local.method.tokenization import ContextEncoder
from cf_local.types import Candidate, Draft, Score, is_unicode


class OwnDraft:
    """What the session would write after ``start``; the next token is chosen, not evaluated.

    There is no next token where a grammar allows none.
    """

    def __init__(self, start: Node, chooser: TokenChooser, vocabulary: LlamaVocabulary) -> None:
        """A draft without tokens; the row after ``start`` must be there."""
        self._chooser, self._vocabulary = chooser, vocabulary
        self._start = start
        self._nodes: list[Node] = []
        self._next_token = chooser.choose(start)

    @property
    def end(self) -> Node:
        """The last node."""
        return self._nodes[-1] if self._nodes else self._start

    @property
    def candidate(self) -> Candidate:
        """The text of the draft, and whether the answer ends there."""
        return Candidate(self._text, self._ends)

    def extend(self, limit: int) -> None:
        """Continue by at least one token, to the next word boundary or ``limit`` tokens in all."""
        text = self._text
        while self._chooser.goes_on(self._next_token) and len(self._nodes) < limit:
            node = self._chooser.advance(self.end, self._next_token)
            self._nodes.append(node)
            text += self._vocabulary.piece(node.token)
            self._next_token = self._chooser.choose(node)
            if is_word_boundary(text, self._lookahead):
                break

    def trim(self, n_bytes: int) -> None:
        """Cut the draft after the token that ends at ``n_bytes``."""
        n_kept = 1 + self._token_ends.index(n_bytes)
        if n_kept < len(self._nodes):
            self._next_token = self._nodes[n_kept].token
            del self._nodes[n_kept:]

    def reported(self) -> Draft:
        """The draft as the engine sees it: without tokens."""
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
        return self._chooser.ends(self._next_token)

    @property
    def _lookahead(self) -> bytes:
        """The text of the token that would follow; empty for the end."""
        token = self._next_token
        return self._vocabulary.piece(token) if self._chooser.goes_on(token) else b""

    @property
    def _token_ends(self) -> tuple[int, ...]:
        return tuple(accumulate(len(self._vocabulary.piece(node.token)) for node in self._nodes))


class Candidates:
    """Finds the node at which a candidate ends, reading it if necessary, and scores it there.

    The session's own draft is read in the very tokens it was written in, other text as this
    vocabulary tokenizes it.
    """

    def __init__(self, cache: Cache, encoder: ContextEncoder, vocabulary: LlamaVocabulary) -> None:
        self._cache, self._encoder, self._vocabulary = cache, encoder, vocabulary
        self._scored: dict[bytes, Node] = {}
        self._word_ends: dict[tuple[Node, frozenset[str]], float] = {}
        self.own: OwnDraft | None = None

    def drop(self) -> None:
        """Forget the session's own draft and all others."""
        self.own, self._scored, self._word_ends = None, {}, {}

    def is_own(self, candidate: Candidate) -> bool:
        """Whether this is the session's own draft."""
        return self.own is not None and candidate == self.own.candidate

    def find(self, candidate: Candidate) -> Node | None:
        """The end of a candidate, which may not be read yet; None if it does not fit."""
        node = self._node(candidate)
        if node is None:
            tokens = self._encoder.encode(candidate.text)
            if not self._cache.fits(len(tokens)):
                return None
            node = self._scored[candidate.text] = self._cache.head.grow(tokens)
        return node

    def score(self, candidates: Sequence[Candidate], word_ends: bool) -> list[Score]:
        """Negative log-likelihood of each candidate; one pass for all that are not yet read."""
        self._read(candidates, word_ends=word_ends)
        return [self._score(candidate, word_ends) for candidate in candidates]

    def _node(self, candidate: Candidate) -> Node | None:
        """The end of the own draft if it is this very candidate, else of its text as read."""
        if self.own is not None and self.is_own(candidate):
            return self.own.end
        return self._scored.get(candidate.text)

    def _read(self, candidates: Iterable[Candidate], *, word_ends: bool = False) -> None:
        """Evaluate candidates after the response, as far as their scores need it."""
        ends: list[tuple[Node, bool]] = []
        for candidate in candidates:
            node = self.find(candidate)
            if node is None:
                continue
            wants_row = word_ends or candidate.ends
            if wants_row or not self.is_own(candidate):
                ends.append((node, wants_row))
        self._cache.read_to_score(ends)

    def _score(self, candidate: Candidate, word_ends: bool) -> Score:
        node = self._node(candidate)
        if node is None:  # it does not fit the context, so it must not win
            return Score(math.inf, 1)
        path = node.path_from(self._cache.head)
        nll_nats, n_terms = sum(n.nll_nats for n in path), len(path)
        if candidate.ends:
            nll_nats += node.expected.nll_of_any(self._vocabulary.end_tokens)
            n_terms += 1
        elif word_ends:
            last = last_character(candidate.text).strip()
            # No word ends after whitespace.
            return Score(nll_nats, n_terms, self._word_end_nats(node, last) if last else math.inf)
        return Score(nll_nats, n_terms)

    def _word_end_nats(self, node: Node, last: str, but: frozenset[str] = frozenset()) -> float:
        """Minus the log of the probability that a word ends at ``node``, with ``last``.

        Left out are next words that begin with one of the characters ``but``.
        """
        key = node, but
        if key not in self._word_ends:  # a row of 150,000 takes 0.2 ms
            starts = self._vocabulary.word_starts.after(last, but)
            self._word_ends[key] = node.expected.nll_of_any(starts)
        return self._word_ends[key]

    def others(self, candidates: Sequence[Candidate], joins: Joins) -> list[Others]:
        """Upper bounds of all segments of one word but the candidates (see Session.others).

        The tokens of another segment depart from those of all candidates somewhere: at the first
        token, later, or by going on where a candidate ends.
        """
        ends: dict[Node, set[Candidate]] = {}
        for candidate in candidates:
            node = self._node(candidate)
            if node is None:  # it does not fit the context
                return [Others(b"", 1.0)]
            ends.setdefault(node, set()).add(candidate)
        head = self._cache.head
        followed: dict[Node, set[int]] = {head: set()}  # tokens by which candidates go on
        for end in ends:
            followed.setdefault(end, set())
            for node in end.path_from(head):
                assert node.parent is not None
                followed.setdefault(node.parent, set()).add(node.token)
        found = [] if head in ends else self._first_tokens(head, followed.pop(head))
        for node, tokens in followed.items():
            path = node.path_from(head)
            reached = math.exp(-sum(step.nll_nats for step in path))
            text = self._vocabulary.decode([step.token for step in path])
            share = self._departing(node, tokens, ends.get(node, set()), joins, text)
            found.append(Others(text, reached * share))
        return found

    def _first_tokens(self, head: Node, tokens: set[int]) -> list[Others]:
        """Bounds by the first token, for the likeliest but ``tokens``; an empty text may end."""
        expected = head.expected
        ending = math.exp(-expected.nll_of_any(self._vocabulary.end_tokens))
        likely, rest = expected.likely_but(tokens)
        found = [Others(self._vocabulary.piece(token), share) for token, share in likely]
        return [*found, Others(b"", max(ending, rest))]

    def _departing(
        self, node: Node, tokens: set[int], ends: set[Candidate], joins: Joins, text: bytes
    ) -> float:
        """The probability, after ``node``, of everything that is not a candidate.

        ``tokens`` lead to other candidates, ``ends`` are those that end here.
        """
        last = last_character(text)
        is_whole = is_unicode(last)
        left = 1.0 - sum(math.exp(-node.children[token].nll_nats) for token in tokens)
        for candidate in ends:
            if candidate.ends:
                left -= math.exp(-node.expected.nll_of_any(self._vocabulary.end_tokens))
            elif is_whole and last.strip():
                left -= math.exp(-self._word_end_nats(node, last, joins(last)))
        # A segment may end where another goes on with what begins a new word, or cut a character.
        if all(candidate.ends for candidate in ends) and (
            not is_whole
            or any(is_word_boundary(text, self._vocabulary.piece(token)) for token in tokens)
        ):
            return 1.0
        return max(0.0, left)

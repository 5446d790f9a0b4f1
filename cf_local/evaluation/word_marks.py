"""What each way to fuse would have written along some texts: one table serves them all.

The table is flat: a column for each candidate of each word, so that a variant is tried on all words
by the functions that decide one step (``reranker``).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cf_local.evaluation.marks import Counted
from cf_local.evaluation.statistics import clustered, sign_flip
from cf_local.evaluation.summary import Comparison, Share
from cf_local.evaluation.tasks.task import Item
from cf_local.evaluation.variants import Variant, is_alone
from cf_local.evaluation.walk import Walk
from cf_local.method.reranker import Matrix, pool, score_matrix
from cf_local.types import Score, ScoreKind, SourceInfo

Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
_AGREED = Score(0.0, 1)  # of a sole candidate, which was not scored


class WordMarks(Counted):
    """Choices and verdicts of variants, by word. Texts are the unit of intervals and tests."""

    def __init__(self, walks: Sequence[Walk], sources: Sequence[SourceInfo]) -> None:
        """``sources`` are those that walked, in their order."""
        self._sources = sources
        self._words = [word for walk in walks for word in walk.words]
        self._texts = {walk.item: index for index, walk in enumerate(walks)}
        n_words = [len(walk.words) for walk in walks]
        self._text_of_word = np.repeat(np.arange(len(walks)), n_words)
        n_columns = [len(word.candidates) for word in self._words]
        self._starts = np.cumsum([0, *n_columns[:-1]])
        self._word_of_column = np.repeat(np.arange(len(self._words)), n_columns)
        self._drafts = self._starts + np.array([word.drafts for word in self._words], np.intp).T
        self._is_right = np.array([right for word in self._words for right in word.right])
        self._matrices: dict[ScoreKind, Matrix] = {}
        self._known: dict[Variant, Indices] = {}

    def choices(self, variant: Variant) -> Indices:
        """The column of the candidate that a variant chooses at each word, shape (n_words,)."""
        if variant not in self._known:
            self._known[variant] = self._choose(variant)
        return self._known[variant]

    def right(self, variant: Variant) -> Flags:
        """Whether a variant writes the next word, shape (n_words,)."""
        return self._is_right[self.choices(variant)]

    def texts(self, variant: Variant) -> list[str]:
        """What a variant writes at each word; "␃" at its end stands for the end of the answer."""
        all_candidates = [candidate for word in self._words for candidate in word.candidates]
        chosen = [all_candidates[column] for column in self.choices(variant)]
        return [each.text.decode(errors="replace") + "␃" * each.ends for each in chosen]

    def any_right(self) -> Flags:
        """Whether any source drafted the next word: the ceiling of all fusing."""
        return np.asarray(self._is_right[self._drafts].any(axis=0))

    def agreed(self) -> Flags:
        """Whether all sources drafted the same."""
        return np.asarray((self._drafts == self._drafts[0]).all(axis=0))

    def wins(self, variant: Variant) -> dict[str, int]:
        """How many disputed words each source won; all that drafted the winner count."""
        part = self._part(variant)
        drafts = self._drafts[part]
        is_disputed = (drafts != drafts[0]).any(axis=0)
        won = ((drafts == self.choices(variant)) & is_disputed).sum(axis=1)
        names = [self._sources[index].name for index in part]
        return {name: int(n) for name, n in zip(names, won, strict=True) if n}

    def next_nats(self, items: Sequence[Item]) -> Matrix:
        """How each source scores each next word, with its end, shape (n_sources, n_words)."""
        words = [self._words[index] for index in np.flatnonzero(self._is_in(items))]
        rows = [[word.next_scores[row] for word in words] for row in range(len(self._sources))]
        return score_matrix(rows, [], "mixture")

    def n_right(self, variant: Variant, items: Sequence[Item]) -> int:
        """Right words."""
        return int(self.right(variant)[self._is_in(items)].sum())

    def best(self, variants: Sequence[Variant], items: Sequence[Item]) -> Variant:
        """The variant with most right words; a tie goes to the first."""
        return max(variants, key=lambda variant: self.n_right(variant, items))

    def versus(self, one: Variant, other: Variant, items: Sequence[Item]) -> Comparison:
        """Words won and lost, and the p of a sign-flip test on the texts."""
        mine, others = self.right(one), self.right(other)
        won = self._by_text(mine & ~others, items)
        lost = self._by_text(others & ~mine, items)
        return Comparison(int(won.sum()), int(lost.sum()), sign_flip((won - lost).tolist()))

    def share(self, variant: Variant, items: Sequence[Item]) -> Share:
        """Share of right words, with an interval clustered by text."""
        return self.share_of(self.right(variant), items)

    def share_of(self, flags: Flags, items: Sequence[Item]) -> Share:
        """Share of the words that have a flag, with an interval clustered by text."""
        n_right = self._by_text(flags, items)
        n = self._by_text(np.ones_like(flags), items)
        n_words = int(n.sum())
        value = float(n_right.sum() / n_words) if n_words else 0.0
        return Share(n_words, value, *clustered(n_right.tolist(), n.tolist()))

    def _choose(self, variant: Variant) -> Indices:
        part = self._part(variant)
        drafts = self._drafts[part]  # (n_part, n_words)
        if is_alone(variant):
            return np.asarray(drafts[0])
        settings = variant.settings
        weights = settings.weights_of([self._sources[index] for index in part])
        pooled = pool(self._matrix(settings.score)[part], settings.score, weights)
        # A tie goes to the candidate whose first drafter is listed first.
        drafter = np.full(len(pooled), len(part))
        for position in reversed(range(len(part))):
            drafter[drafts[position]] = position
        is_drafted = drafter < len(part)
        lowest = np.minimum.reduceat(np.where(is_drafted, pooled, np.inf), self._starts)
        is_best = is_drafted & (pooled == lowest[self._word_of_column])
        winner = np.minimum.reduceat(np.where(is_best, drafter, len(part)), self._starts)
        return np.asarray(drafts[winner, np.arange(len(winner))])

    def _part(self, variant: Variant) -> list[int]:
        """The indices of the sources that take part, in the variant's order."""
        names = [source.name for source in self._sources]
        if is_alone(variant):
            return [names.index(variant.settings.only or names[0])]
        return [names.index(name) for name in variant.sources or names]

    def _matrix(self, kind: ScoreKind) -> Matrix:
        """Scores of one kind, shape (n_sources, n_columns)."""
        if kind not in self._matrices:
            candidates = [candidate for word in self._words for candidate in word.candidates]
            rows = [
                [
                    score
                    for word in self._words
                    for score in (word.scores[row] if word.scores else (_AGREED,))
                ]
                for row in range(len(self._sources))
            ]
            self._matrices[kind] = score_matrix(rows, candidates, kind)
        return self._matrices[kind]

    def _is_in(self, items: Sequence[Item]) -> Flags:
        """Which words belong to the texts of these items."""
        texts = [self._texts[item.id] for item in items if item.id in self._texts]
        return np.isin(self._text_of_word, texts)

    def _by_text(self, flags: Flags, items: Sequence[Item]) -> Indices:
        """How many words of each item's text have a flag."""
        counts = np.bincount(self._text_of_word[flags], minlength=len(self._texts))
        return counts[[self._texts[item.id] for item in items if item.id in self._texts]]

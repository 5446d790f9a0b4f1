"""Drafts that end where every source can cut: the synchronizer of the sources' vocabularies.

A source drafts to word boundaries of its own vocabulary; an aligned segment continues until one of
them is also a token boundary of every other source (method: "Word boundary"; paper section 3.2).
"""

from collections.abc import Sequence
from dataclasses import replace

from cf_local.method.boundary import (
    ends_sentence,
    is_character_boundary,
    is_word_boundary,
    whole_characters,
)
from cf_local.method.session import Session
from cf_local.types import Draft, SegmentKind


def draft_segment(
    session: Session, others: Sequence[Session], kind: SegmentKind, limit: int, n_words: int = 1
) -> Draft:
    """The next segment of ``session``: its shortest continuation that ends where ``kind`` allows.

    It ends at the ``n_words``-th place where it may be cut, or at the first one that ends a
    sentence. If it reaches ``limit`` tokens before, it is cut at the last such place or, without
    any, at the last whole character that is a token boundary of all sources. A stuck draft is empty
    and does not end, whatever was written of it (method: "Structured answers").
    """
    judges = () if kind == "shortest" else others
    draft, words = session.draft(limit), list[int]()
    while not draft.ends:
        if draft.is_stuck:
            return Draft(b"", ends=False, lookahead=b"", token_ends=(), is_stuck=True)
        if _ends_at_common_word(draft, judges):
            words.append(len(draft.text))
            if kind == "sentence":
                is_done = ends_sentence(draft.text, draft.lookahead)
            else:
                is_done = len(words) >= n_words
            if is_done:
                break
        if len(draft.token_ends) >= limit:
            return _cut(session, draft, judges, words)
        draft = session.extend(limit)
    return draft


def _cut(session: Session, draft: Draft, judges: Sequence[Session], words: Sequence[int]) -> Draft:
    if not draft.text:  # only control tokens: it has nothing more to say
        return replace(draft, ends=True)
    return session.trim(words[-1] if words else _last_common_cut(draft, judges))


def _ends_at_common_word(draft: Draft, judges: Sequence[Session]) -> bool:
    if not is_word_boundary(draft.text, draft.lookahead):
        return False
    seen = _text_seen(draft)
    return all(len(draft.text) in judge.token_ends(seen) for judge in judges)


def _last_common_cut(draft: Draft, judges: Sequence[Session]) -> int:
    """Bytes to keep; all of them when no place is both whole and common."""
    all_seen, seen = draft.text + draft.lookahead, _text_seen(draft)
    ends = {end for end in draft.token_ends if end > 0}
    cuts = {end for end in ends if is_character_boundary(all_seen[:end], all_seen[end:])}
    common = cuts.intersection(*(judge.token_ends(seen) for judge in judges))
    return max(common or cuts, default=len(draft.text))


def _text_seen(draft: Draft) -> bytes:
    # Others cannot tokenize part of a character before the rest of it is there.
    return whole_characters(draft.text + draft.lookahead)

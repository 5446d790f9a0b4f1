"""Where a word of any language ends, and where several tokenizations agree that it does.

The rule comes from ``docs/method.md`` ("Word boundary"). It looks at two neighbouring characters
and nothing else, so it needs no dictionary and no state: Chinese, Thai and the like, written
without spaces, count each character as a word. Whitespace belongs to the word that follows it.
"""

import codecs
import unicodedata
from functools import lru_cache
from itertools import pairwise

_ZERO_WIDTH_JOINER = "\u200d"
_FULL_STOPS = ".!?…‼⁇⁈⁉"  # they end a sentence if whitespace follows
_WIDE_STOPS = "。！？｡．"  # Chinese and Japanese: no whitespace needs to follow
_CLOSERS = "\"'*_`"  # and Unicode's closing brackets and final quotes
_EMOJI_MODIFIERS = range(0x1F3FB, 0x1F3FF + 1)
# Python has no Script property; these prefixes of character names mark scripts without spaces.
_UNSPACED_SCRIPTS = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "CJK RADICAL",
    "KANGXI RADICAL",
    "IDEOGRAPHIC ",
    "VERTICAL IDEOGRAPHIC ",
    "HANGZHOU NUMERAL",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "HENTAIGANA",
    "THAI ",
    "LAO ",
    "MYANMAR ",
    "KHMER ",
)


@lru_cache(maxsize=4096)
def class_of(char: str) -> str:
    """Class of one character, which decides where words end after it.

    "space", "unspaced", "letter", "number", "other", or "joiner" (zero-width), which ends no word.
    """
    if char == _ZERO_WIDTH_JOINER:
        return "joiner"
    if char.isspace():
        return "space"
    if unicodedata.name(char, "").startswith(_UNSPACED_SCRIPTS):
        return "unspaced"
    return {"L": "letter", "M": "letter", "N": "number"}.get(unicodedata.category(char)[0], "other")


@lru_cache(maxsize=4096)
def _continues(char: str) -> bool:
    """Whether a character belongs to the one before it: marks, joiner, skin tones."""
    return (
        unicodedata.category(char)[0] == "M"
        or char == _ZERO_WIDTH_JOINER
        or ord(char) in _EMOJI_MODIFIERS
    )


def is_unspaced(char: str) -> bool:
    """Whether a character belongs to a script without spaces, where it counts as a word."""
    return class_of(char) == "unspaced"


def is_boundary_between(prev: str, next_: str) -> bool:
    """Whether a word ends between two neighbouring characters (method: "Word boundary")."""
    before = class_of(prev)
    if before in ("space", "joiner") or _continues(next_):
        return False
    after = class_of(next_)
    return before != after or before in ("other", "unspaced")


def first_character(text: bytes) -> str:
    """The first character of ``text``; empty if only a part of it is there."""
    return _decode_whole(text[:4])[:1]


def last_character(text: bytes) -> str:
    """The last character of ``text``; empty without text."""
    return _decode(text[-16:])[-1:]


def partial_character(char: str, index: int) -> str:
    """The byte ``index`` of a character as text shows a single byte; an ASCII one is whole."""
    raw = char.encode("utf-8", errors="surrogateescape")
    return char if len(raw) < 2 else chr(0xDC00 + raw[index])


def is_character_boundary(text: bytes, after: bytes) -> bool:
    """Whether no UTF-8 character spans the end of ``text`` and the ``after`` that follows.

    Bytes that cannot be part of a character count as one character each.
    """
    return _decode_whole(text + after).startswith(_decode(text))


def is_word_boundary(text: bytes, lookahead: bytes) -> bool:
    """Whether a word ends between ``text`` and the ``lookahead`` that would follow.

    False while the two characters that meet there are unknown: ``text`` or ``lookahead`` is empty,
    or ``lookahead`` holds only part of its first character.
    """
    before, joint = _decode(text), _decode_whole(text + lookahead)
    if not (before and joint.startswith(before) and len(joint) > len(before)):
        return False
    return is_boundary_between(before[-1], joint[len(before)])


def ends_sentence(text: bytes, lookahead: bytes) -> bool:
    """Whether a sentence ends at the word boundary between ``text`` and ``lookahead``.

    It does before a line break, and after a full stop (``. ! ? …``, or their Chinese and Japanese
    counterparts) together with any closing quotes, brackets and emphasis after it. Whitespace must
    follow a Western full stop, so "3.5" is one sentence; "Dr. No" is two.
    """
    before, next_ = _decode(text), _decode_whole(lookahead)[:1]
    if next_ in ("\n", "\r"):
        return True
    stop = before.rstrip("".join(filter(_closes, set(before))))[-1:]
    if not stop or _closes(next_):
        return False
    return (stop in _FULL_STOPS and next_.isspace()) or (
        stop in _WIDE_STOPS and next_ not in _FULL_STOPS + _WIDE_STOPS
    )


def _closes(char: str) -> bool:
    return bool(char) and (char in _CLOSERS or unicodedata.category(char) in ("Pe", "Pf"))


def whole_characters(text: bytes) -> bytes:
    """``text`` without an incomplete character at its end."""
    return _decode_whole(text).encode("utf-8", errors="surrogateescape")


def last_words(text: bytes, n_words: int) -> bytes:
    """The last ``n_words`` words of ``text``, with the whitespace before them.

    Bytes that are not valid UTF-8 count as one symbol each.
    """
    chars = _decode(text)
    start = len(chars)
    for _ in range(n_words):
        start -= 1
        while start > 0 and not _is_boundary_at(chars, start):
            start -= 1
        if start <= 0:
            return text
    return chars[start:].encode("utf-8", errors="surrogateescape")


def words_of(text: str) -> list[str]:
    """The words of ``text``, each with the whitespace before it."""
    cuts = [i for i in range(1, len(text)) if _is_boundary_at(text, i)]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])] if text else []


def _is_boundary_at(chars: str, index: int) -> bool:
    return is_boundary_between(chars[index - 1], chars[index])


def _decode(text: bytes) -> str:
    """All of ``text``; a byte that is not valid UTF-8 becomes a surrogate, class "other"."""
    return text.decode("utf-8", errors="surrogateescape")


def _decode_whole(text: bytes) -> str:
    """The same without an incomplete character at the end."""
    return codecs.getincrementaldecoder("utf-8")(errors="surrogateescape").decode(text)

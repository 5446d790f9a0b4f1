"""Text of a model made safe to show: nothing in it moves a cursor, reorders or hides other text.

A model may write any character. A control character would be obeyed by a terminal, a bidirectional
override would turn around what stands beside it, and half a surrogate pair cannot be written at
all. All of them become characters that can be seen. Letters, marks, joiners and the marks of
direction that Arabic and Hebrew texts use stay as they are.
"""

import re

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BIDI_NAMES = dict(zip((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), (
    "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
), strict=True))  # fmt: skip
_TABLE: dict[int, str] = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\N{SYMBOL FOR DELETE}"}
    | dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT)
    | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT)
    | {code: f"⟨{name}⟩" for code, name in _BIDI_NAMES.items()}
)


def visible(text: str) -> str:
    """The text with control characters shown instead of obeyed; line breaks and tabs stay."""
    return text.translate(_TABLE)


def in_one_line(text: str, most: int | None = None) -> str:
    """The same for a cell of a table: line breaks, tabs and spaces at the ends are shown, too.

    With ``most`` a longer text is cut to that many characters.
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    line = re.sub("[\n\u2028\u2029]", "↵", visible(text)).replace("\t", "⇥")
    stripped = line.strip(" ")
    if not stripped:
        return "␣" * len(line)
    before = len(line) - len(line.lstrip(" "))
    after = len(line) - len(line.rstrip(" "))
    return "␣" * before + stripped + "␣" * after

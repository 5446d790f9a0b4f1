"""Lines broken between words, where a terminal would break them inside a word."""

import re

import click

_TOKEN = re.compile(r"\n|[^\S\n]+|\S+")
_FENCE = ("```", "~~~")


class WordWrap:
    """Breaks the lines of a text that arrives piece by piece. Fenced listings stay as they are."""

    def __init__(self) -> None:
        self._column = 0  # cells
        self._gap = ""  # spaces that a line break may replace
        self._is_listing = False

    def feed(self, text: str, width: int) -> str:
        """The text to show for the next piece, on a terminal of ``width`` cells."""
        return "".join(self._shown(token, width) for token in _TOKEN.findall(text))

    def flush(self) -> str:
        """Spaces at the end of the text."""
        gap, self._gap = self._gap, ""
        return gap

    def _shown(self, token: str, width: int) -> str:
        from rich.cells import cell_len  # imported here: `--help` need not wait for it

        if token == "\n":
            self._column = 0
            return self.flush() + token
        if token.isspace() and self._column:
            self._gap += token
            return ""
        if not self._column and token.startswith(_FENCE):
            self._is_listing = not self._is_listing
        n_cells = cell_len(click.unstyle(token.expandtabs(8)))
        gap = self.flush()
        if gap and not self._is_listing and self._column + len(gap) + n_cells > width:
            gap, self._column = "\n", -1
        column = self._column + len(gap) + n_cells
        self._column = (column - 1) % width + 1 if column > width > 0 else column
        return gap + token

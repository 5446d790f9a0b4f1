"""Markdown as it streams: words appear at once, and each finished block is redrawn by rich.

A block is the text between empty lines, or a whole fenced listing. It is redrawn only if that is
safe: the terminal still shows the rows that were counted, and the drawing contains every letter,
digit and operator of the block. Otherwise it stays as the model wrote it, so nothing is lost or
moved.
"""

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable

import click

from cf_local.cli.wrapping import WordWrap

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MARKUP = re.compile(r"[*_`#~|>\[]|^\s*([-+]|\d+[.)])\s", re.MULTILINE)
_UNSAFE = re.compile(r"\\|[\w)]\*+[\w(]|<|&\w+;")  # escapes, products, HTML: rich would drop them


class BlockSplitter:
    """Finds the ends of blocks in lines that arrive one by one."""

    def __init__(self) -> None:
        self._fence = ""
        self._lines: list[str] = []

    @property
    def block(self) -> str:
        """The block so far."""
        return "".join(self._lines)

    def add(self, line: str) -> bool:
        """Add a whole line; returns whether the block ends with it."""
        self._lines.append(line)
        fence = _FENCE.match(line)
        if self._fence:
            closes = fence is not None and line.strip() == self._fence[0] * len(line.strip())
            if not (closes and len(line.strip()) >= len(self._fence)):
                return False
            self._fence = ""
            return True
        if fence is not None:
            self._fence = fence[1]
            return False
        return not line.strip()

    def next(self) -> None:
        """Start a new block."""
        self._lines.clear()


class MarkdownSink:
    """Writes an answer to the terminal, and redraws each complete block as formatted text."""

    def __init__(self) -> None:
        self._splitter = BlockSplitter()
        self._line = ""
        self._wrap, self._shown = WordWrap(), ""
        self._size = shutil.get_terminal_size()

    def write(self, text: str) -> None:
        """Show a piece of text at once."""
        for part in re.split("(?<=\n)", text):
            shown = self._wrap.feed(part, self._size.columns)
            click.echo(shown, nl=False)
            self._shown += shown
            self._line += part
            if part.endswith("\n"):
                line, self._line = self._line, ""
                if self._splitter.add(line):
                    self._finish()

    def end(self, *, redraws: bool = True) -> None:
        """End the answer; redraw its last block if ``redraws``."""
        if self._line:
            self.write("\n")
        if redraws and self._splitter.block.strip():
            self._finish()

    def _finish(self) -> None:
        block, size = self._splitter.block, self._size
        shown, self._shown = self._shown, ""
        self._splitter.next()
        self._size = shutil.get_terminal_size()
        if self._size != size or not _MARKUP.search(block) or _UNSAFE.search(_prose(block)):
            return
        n_rows = rows(shown, size.columns)
        if n_rows is None or n_rows >= size.lines:
            return
        drawn = _drawn(block.strip("\n"), size.columns)
        if _essence(_without_fences(block)) != _essence(click.unstyle(drawn)):
            return
        gap = "\n" if not block.rpartition("\n")[0].rpartition("\n")[2].strip() else ""
        click.echo(f"\x1b[{n_rows}A\r\x1b[J{drawn}{gap}", nl=False)


def rows(block: str, width: int) -> int | None:
    """The number of terminal rows that whole lines take; None where terminals disagree."""
    from rich.cells import cell_len

    n_rows = 0
    for line in block.removesuffix("\n").split("\n"):
        line = line.expandtabs(8)
        if not line.isascii() and any(map(_is_uncertain, line)):
            return None
        n_cells = cell_len(line)
        if n_cells >= width and n_cells != len(line):
            return None
        n_rows += max(1, -(-n_cells // width))
    return n_rows


def _is_uncertain(char: str) -> bool:
    """Whether terminals disagree on the width: combining marks, emoji."""
    return not char.isascii() and unicodedata.category(char) in ("Mn", "Me", "Cf", "So", "Sk")


def _drawn(block: str, width: int) -> str:
    """The block as rich formats it, with escape codes."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=sys.stdout, width=width, force_terminal=True, emoji=False)
    with console.capture() as captured:
        console.print(Markdown(block, hyperlinks=False, code_theme="ansi_dark"))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().strip("\n").split("\n"))


def _prose(block: str) -> str:
    """The block without its listings, which rich draws unchanged."""
    prose, fence = [], ""
    for line in block.split("\n"):
        match = _FENCE.match(line)
        if match and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else match[1]
        elif not fence:
            prose.append(re.sub(r"`[^`]*`", "", line))
    return "\n".join(prose)


def _without_fences(block: str) -> str:
    return "\n".join(line for line in block.split("\n") if not _FENCE.match(line))


def _essence(text: str) -> Iterable[str]:
    """What a drawing must preserve, in order: everything but spaces and markup characters."""
    return [c for c in text if c.isalnum() or c in "=/%$€?.,;'\"{}"]

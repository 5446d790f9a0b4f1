"""What is being waited for: a line on stderr, erased once it is over."""

import os
import sys
import time

import click

from cf_local.progress import Closing

_PATIENCE_S = 0.3  # what takes less is not worth a line
_WIDTH = 24


class StatusLine(Closing):
    """A line that is drawn again as the work advances; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        """Nothing is shown for the first moments."""
        self.is_drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        """Whether there is a terminal for it."""
        self._start_s = time.monotonic()
        self._text = ""

    def show(self, what: str, share: float) -> None:
        """Say what is done, and how much of it (0 to 1)."""
        if time.monotonic() - self._start_s > _PATIENCE_S:
            n_full = int(share * _WIDTH)
            self.say(f"{what} [{'#' * n_full:-<{_WIDTH}}] {share:.0%}")

    def say(self, text: str) -> None:
        """Show a text at once."""
        if self.is_drawn and text != self._text:
            self._text = text
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def note(self, text: str) -> None:
        """Print a note, which stays; also without a terminal."""
        self.clear()
        click.echo(f"Note: {text}", err=True)

    def clear(self) -> None:
        """Erase the line."""
        if self._text:
            self._text = ""
            click.echo("\r\x1b[K", nl=False, err=True)

    def close(self) -> None:
        """Like ``clear``."""
        self.clear()

"""Forward passes of one conversation, which the one who waits for it can cancel."""

from collections.abc import Sequence

from cf_local.errors import Cancelled
from cf_local.llama.context import Context, Row
from cf_local.progress import IsCancelled, never


class Passes:
    """Evaluates rows in one context unless ``is_cancelled``, which may be replaced at any time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.is_cancelled: IsCancelled = never

    def run(self, rows: Sequence[Row], *, abortable: bool = False) -> None:
        """One pass (see Context.evaluate); raises Cancelled before it, or from within a long one.

        ``abortable`` says that this one may be long, though the last one was not.
        """
        if self.is_cancelled():
            raise Cancelled("Cancelled.")
        abortable = abortable or self._context.has_long_passes
        with self._context.abortable(self.is_cancelled, when=abortable):
            self._context.evaluate(rows)

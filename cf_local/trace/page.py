"""The picture of a trace: one HTML page that needs no network and, to be read, no JavaScript.

All text of models is escaped by the template engine, and made ``visible`` before. The page allows
nothing but its own style and script, by their hashes. Template, style and script lie beside this
file; ``view`` says what they show.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cf_local.trace.labels import ENDS, letter, number, proposers
from cf_local.trace.model import Trace
from cf_local.trace.view import View, view_of
from cf_local.trace.visible import in_one_line, visible
from cf_local.types import ScoredCandidate

if TYPE_CHECKING:
    from jinja2 import Environment

_MARK = b'<meta name="generator" content="cf-local trace">'
_MOST_OF_CANDIDATE = 300  # characters of a whole answer in a table; the rest stands below it


def is_page(head: bytes) -> bool:
    """Whether a file that begins with these bytes is such a page."""
    return _MARK in head


def render(traces: Sequence[Trace]) -> str:
    """The page of one or more answers."""
    from markupsafe import Markup  # imported here, with jinja2: other commands need it not

    views = [view_of(trace, index) for index, trace in enumerate(traces)]
    return (
        _environment()
        .from_string(_text("page.html"))
        .render(
            views=views,
            title=_title(views),
            style=Markup(_text("page.css")),  # our own file
            script=Markup(_text("page.js")),
        )
    )


def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "candidate": _candidate,
        "cell": in_one_line,
        "hash": _hash,
        "letter": letter,
        "number": number,
        "proposers": proposers,
        "visible": visible,
    }
    return environment


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: Any) -> str:
    """As a content security policy names an inline style or script."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _title(views: Sequence[View]) -> str:
    shorten = partial(in_one_line, most=60)
    return shorten(views[0].question) if len(views) == 1 else f"{len(views)} answers"


def _candidate(candidate: ScoredCandidate, is_whole: bool) -> str:
    """A candidate in a cell."""
    text = in_one_line(candidate.text, _MOST_OF_CANDIDATE if is_whole else None)
    text = text or ("" if candidate.ends else "(nothing)")
    return f"{text}{ENDS}" if candidate.ends else text

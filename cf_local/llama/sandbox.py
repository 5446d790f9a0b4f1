"""Runs the Jinja templates of model files, within bounds of time and size.

A template is a program from somebody else. The sandbox keeps it from everything but its variables;
the bounds keep it from taking all time or memory.
"""

import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cf_local.llama.library import Jinja2ChatFormatter

_LIMIT_S = 5.0  # of a rendering, which takes milliseconds; on a busy machine, too
_MOST = 10_000_000
"""Characters, entries or bits of anything that a template computes."""
_SIZING = frozenset(
    "batch center expandtabs format indent join ljust replace rjust zfill".split()  # noqa: SIM905
)
"""Methods and filters whose result may be much larger than what they are given."""
_SIZED = (str, list, tuple)
_NUMBER = re.compile(r"\d+")


class ExcessError(Exception):
    """A template was stopped."""


class _CodeGenerator(CodeGenerator):
    """Lets the environment join the operands of ``~``."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Write the code of ``a ~ b``."""
        self.write("environment.joined((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of templates, with bounds on what a single operation computes.

    No time limit stops one long operation, and one that takes all memory ends other programs.
    """

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset({"**", "*", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in _SIZING & self.filters.keys():
            self.filters[name] = self._bounded(name, self.filters[name])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the result would be huge."""
        n_bits = _n_bits(left), _n_bits(right)
        if operator == "**":
            is_huge = isinstance(right, int) and abs(right) * n_bits[0] > _MOST
        elif operator == "*":
            is_huge = n_bits[0] * n_bits[1] > _MOST or any(
                isinstance(one, _SIZED) and isinstance(other, int) and len(one) * other > _MOST
                for one, other in ((left, right), (right, left))
            )
        elif operator == "+":
            is_huge = sum(len(one) for one in (left, right) if isinstance(one, _SIZED)) > _MOST
        else:
            values = right if isinstance(right, tuple) else (right,)
            is_huge = isinstance(left, str) and _size_of("format", (left, *values)) > _MOST
        if is_huge:
            raise OverflowError(f"a result of {operator} is too large")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function or method, unless a text that it makes would be huge."""
        name, owner = getattr(__obj, "__name__", ""), getattr(__obj, "__self__", None)
        if isinstance(owner, _SIZED) and name in _SIZING:
            _check_size(name, (owner, *args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format within the sandbox and its bounds."""
        formats = super().wrap_str_format(value)
        return formats and self._bounded("format", formats, value.__self__)

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of what a template or a part of it writes."""
        texts, n = list[str](), 0
        for piece in pieces:
            n += len(piece)
            if n > _MOST:
                raise OverflowError(f"it writes more than {_MOST} characters")
            texts.append(piece)
        return "".join(texts)

    def joined(self, operands: Sequence[Any]) -> str:
        """The operands of ``~`` as one text."""
        texts = list(map(str, operands))
        _check_size("join", (texts,))
        return "".join(texts)

    def _bounded(self, name: str, work: Callable[..., Any], *owner: Any) -> Callable[..., Any]:
        @wraps(work)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            _check_size(name, (*owner, *args, *kwargs.values()))
            return work(*args, **kwargs)

        return bounded


def _check_size(name: str, values: Sequence[Any]) -> None:
    if _size_of(name, values) > _MOST:
        raise OverflowError(f"a result of {name} is too large")


def _size_of(name: str, values: Sequence[Any]) -> int:
    """About the length of what an operation of _SIZING makes; what is not data is left out."""
    data = [value for value in values if isinstance(value, (*_SIZED, int))]
    texts = [value for value in data if isinstance(value, str)]
    if name == "replace":
        old, new = texts[1:3] if len(texts) >= 3 else ("", "")
        return texts[0].count(old) * len(new) if texts else 0
    if name == "join":
        items = next((value for value in data if isinstance(value, list | tuple)), ())
        separator = max(map(len, texts), default=0)
        return sum(separator + (len(item) if isinstance(item, str) else 1) for item in items)
    numbers = [value for value in data if isinstance(value, int)]
    widths = _NUMBER.findall(texts[0]) if name == "format" and texts else ()
    n_lines = texts[0].count("\n") + 1 if name == "indent" and texts else 1
    return n_lines * max([*numbers, *(int(width[:20]) for width in widths)], default=0)


def _n_bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


class SandboxedFormatter(Jinja2ChatFormatter):
    """llama-cpp-python's formatter with an environment of our own: it compiles in __init__."""

    def __init__(self, template: str, eos_token: str, bos_token: str) -> None:
        self.template, self.eos_token, self.bos_token = template, eos_token, bos_token
        self.add_generation_prompt, self.stop_token_ids = True, None
        environment = _Environment(
            loader=jinja2.BaseLoader(),
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Jinja2ChatFormatter.IgnoreGenerationTags, loopcontrols],
        )
        environment.filters["tojson"] = self.tojson
        self._environment = environment.from_string(template)

    def render(self, **variables: Any) -> str:
        """What the template makes of ``variables``. Raises ExcessError, and what it raises."""
        with _limited(_LIMIT_S):
            return str(self(**variables).prompt)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise ExcessError in what Python runs here for longer, in whatever thread this is."""
    end = time.monotonic() + seconds

    def watch(_frame: Any, _event: str, _argument: Any) -> Any:
        if time.monotonic() > end:
            raise ExcessError(f"does not end: it was stopped after {seconds:g} s")
        return watch

    former = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(former)


def reason_of(error: Exception) -> str:
    """Why a template failed, with its line where that is known."""
    line = getattr(error, "lineno", None)
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == "<template>":
            line = number
    text = (str(error) or type(error).__name__).splitlines()[0]
    kind = "" if isinstance(error, jinja2.TemplateError | ValueError) else type(error).__name__
    problem = f"{kind}: {text}" if kind and kind != text else text
    return f"{problem} (line {line} of the template)" if line else problem

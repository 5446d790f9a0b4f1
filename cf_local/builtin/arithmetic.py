"""The calculations behind the word problems: which numbers occur, and how a step is written out.

Left out: the sentences, and which model is good at what.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from zlib import crc32

from cf_local.builtin.wording import unit_limit

LARGEST, LARGEST_QUOTIENT = 999, 49
OPERATION = {"add": "+", "sub": "-", "mul": "*", "units": "*", "div": "/", "percent": "/"}

Show = Callable[[int], int]  # the number to write for a computed number


def held_out(operation: str, a: int, b: int) -> bool:
    """Whether the pair belongs to the test split: about one in ten, never a one-digit fact."""
    largest_part = {"+": max(a, b), "*": max(a, b), "-": a, "/": a // b if b else 0}[operation]
    if largest_part < 10:
        return False
    if operation in "+*":
        a, b = min(a, b), max(a, b)
    return crc32(f"{operation}:{a}:{b}".encode()) % 10 == 0


def write_out(skill: str, a: int, b: int, show: Show) -> tuple[str, int]:
    """The step as it is written, including partial results, and its result.

    ``23 + 14 = 33 + 4 = 37``, ``14 * 6 = 60 + 24 = 80 + 4 = 84`` and
    ``84 / 3 = 10 + 54 / 3 = 20 + 24 / 3 = 20 + 8 = 28``. Each computed number passes through
    ``show``, which returns it or another one to write instead.
    """
    operation, result = OPERATION[skill], show(apply(skill, a, b))
    if operation in "+-":
        return _digit_by_digit(a, operation, b, result, show), result
    if operation == "/" and b != 10:
        return _ten_by_ten(a, b, result, show), result
    head = f"{a} {operation} {b} = "
    if operation == "*" and (parts := _product_parts(a, b)):
        return head + _digit_by_digit(show(parts[0]), "+", show(parts[1]), result, show), result
    return f"{head}{result}", result


def _ten_by_ten(a: int, b: int, result: int, show: Show) -> str:
    """``a / b``, subtracting ten times ``b`` as often as something is left."""
    text, tens = f"{a} / {b} = ", 0
    while a > 10 * b:
        a, tens = a - 10 * b, tens + 10
        text += f"{tens} + {show(a)} / {b} = "
    if tens and a < 10 * b:
        text += f"{tens} + {show(a // b)} = "
    return f"{text}{result}"


def _digit_by_digit(a: int, sign: str, b: int, result: int, show: Show) -> str:
    """``a + b`` or ``a - b``, one digit of ``b`` at a time, the highest first."""
    text = f"{a} {sign} {b} = "
    while b % (place := 10 ** (len(str(b)) - 1)):
        top = b // place * place
        a, b = a + top if sign == "+" else a - top, b - top
        text += f"{show(a)} {sign} {b} = "
    return f"{text}{result}"


def _product_parts(a: int, b: int) -> tuple[int, int] | None:
    """The products with the tens and the ones of one factor, None if there is nothing to split."""
    if b in (10, 100) or max(a, b) < 10:
        return None
    split, other = (a, b) if a > 9 and (b < 10 or b == 60) else (b, a)
    tens, ones = split // 10 * 10, split % 10
    return (tens * other, ones * other) if ones else None


def apply(skill: str, a: int, b: int) -> int:
    """The result of the step."""
    operation = OPERATION[skill]
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operation]


def fits(skill: str, a: int, b: int) -> bool:
    """Whether the step stays within the whole numbers that the models learn to write out."""
    if skill in ("div", "percent"):
        return a % b == 0 and 2 <= a // b <= (99 if b == 10 else LARGEST_QUOTIENT)
    if skill in ("mul", "units"):
        return (
            a >= 2
            and min(a, b) < 100
            and a * b <= LARGEST
            and not (a > 9 and b > 9 and b not in (10, 12, 60))
        )
    return a + b <= LARGEST if skill == "add" else a > b


def operands(rng: random.Random, skill: str, factor: int) -> tuple[int, int]:
    """The two numbers of a first step; ``factor`` is that of the problem's unit."""
    while True:
        a, b = _sized(rng), _sized(rng)
        if skill in ("mul", "div"):
            a, b = _two_digits(rng, LARGEST_QUOTIENT if skill == "div" else 99), rng.randint(2, 9)
            a, b = (a * b, b) if skill == "div" else ((a, b) if rng.random() < 0.5 else (b, a))
        elif skill == "units":
            a, b = rng.randint(2, unit_limit(factor)), factor
        elif skill == "percent":
            b = rng.choice((2, 4, 5, 10))
            a = b * _two_digits(rng, 99 if b == 10 else LARGEST_QUOTIENT)
        if fits(skill, a, b):
            return a, b


def next_operand(rng: random.Random, skill: str, middle: int, factor: int) -> int | None:
    """The second number of a second step that starts from ``middle``; None if there is none."""
    choices: dict[str, Collection[int]] = {
        "mul": range(2, 10) if middle > 9 else range(2, 100),
        "units": (factor,) if middle <= unit_limit(factor) else (),
        "div": range(2, 10),
        "percent": (2, 4, 5, 10),
    }
    fitting = [c for c in choices.get(skill, (_sized(rng),)) if fits(skill, middle, c)]
    return rng.choice(fitting) if fitting else None


def _two_digits(rng: random.Random, largest: int) -> int:
    return rng.randint(10, largest) if rng.random() < 0.85 else rng.randint(2, 9)


def _sized(rng: random.Random) -> int:
    """A number of one, two or three digits, mostly two."""
    low, high = rng.choices(((2, 9), (10, 99), (100, LARGEST)), (0.12, 0.68, 0.2))[0]
    return rng.randint(low, high)

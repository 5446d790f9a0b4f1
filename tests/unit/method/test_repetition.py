"""When an answer counts as caught in a loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cf_local.method.output import (
    LONG_REPEATS,
    LONG_UNIT_BYTES,
    MAX_PERIOD_BYTES,
    MIN_BYTES,
    MIN_REPEATS,
    PROSE_BYTES,
    PROSE_REPEATS,
    is_looping,
)


@pytest.mark.parametrize("unit", [b"a", b"ab", b" the fox", b"x" * 99 + b"y"])
def test_a_unit_over_and_over_is_a_loop(unit: bytes) -> None:
    n_needed = max(MIN_REPEATS, -(-MIN_BYTES // len(unit)))
    assert is_looping(b"Well. " + unit * n_needed)
    assert not is_looping(b"Well. " + unit * (n_needed - 1))


PROSE = [
    b"   - A birthday planner\n",
    b", 1 can of chickpeas",
    b"I am the love of my life,\nI am the love of my heart.\n",
    "- Der Igel schläft schön\n".encode(),
    "Он спит весь день.\n".encode(),
]


@pytest.mark.parametrize("unit", PROSE)
def test_the_same_line_is_not_written_eight_times(unit: bytes) -> None:
    n_needed = max(PROSE_REPEATS, -(-PROSE_BYTES // len(unit)))
    assert n_needed < MIN_REPEATS
    assert is_looping(b"A list:\n" + unit * n_needed)
    assert not is_looping(b"A list:\n" + unit * (n_needed - 1))


ITEMS = (
    b"%d. **Hat**: A hat is a must-have for protection from the sun.\n",
    b"%d. **Sunscreen**: Sunscreen protects your skin from the rays of the sun.\n",
    b"%d. **Water**: A bottle of water is essential for hydration on your way.\n",
)


def test_a_numbered_list_that_starts_over_is_a_loop() -> None:
    lines = [ITEMS[n % 3] % (n + 1) for n in range(3 * LONG_REPEATS)]
    assert sum(map(len, lines[:3])) >= LONG_UNIT_BYTES
    assert is_looping(b"".join(lines))
    assert not is_looping(b"".join(lines[:-1]))
    assert not is_looping(b"".join(lines[:-1]) + b"9. An end.\n")


def test_four_long_items_that_come_again_are_a_loop() -> None:
    """Seen from small models: a unit of some 600 bytes."""
    items = [
        item.replace(
            b".\n", b". Take one with you, and keep another one at home for the others.\n\n"
        )
        for item in (*ITEMS, ITEMS[0].replace(b"Hat", b"Cap"))
    ]
    lines = [items[n % 4] % (n + 1) for n in range(4 * LONG_REPEATS)]
    assert 500 < sum(map(len, lines[:4])) < MAX_PERIOD_BYTES
    assert is_looping(b"".join(lines))
    assert not is_looping(b"".join(lines[:-1]))


def test_an_item_is_not_written_over_and_over_under_other_numbers() -> None:
    lines = [ITEMS[0] % n for n in range(7, 7 + PROSE_REPEATS)]
    assert is_looping(b"".join(lines))
    assert not is_looping(b"".join(lines[1:]))


@pytest.mark.parametrize(
    "unit",
    [
        b"    [0, 0, 0, 0, 0, 0, 0, 0],\n",
        b"    [None, None, None, None, None, None],\n",
        b"        <td class='cell'></td>\n",
        b'    printf("Hello, world!\\n");\n',
        b"  { id: 0, x: 0, y: 0 },\n",
        b" " * 16,
        b" " * 18 + b"|\n",
    ],
)
def test_tables_and_listings_may_repeat_more_often(unit: bytes) -> None:
    assert not is_looping(unit * 7)


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=30))
def test_a_loop_is_seen_at_whatever_byte_it_is_cut(unit: bytes, before: bytes) -> None:
    loop = unit * (2 * MIN_BYTES // len(unit) + MIN_REPEATS)
    assert is_looping(before + loop[: len(loop) - len(unit) // 2])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a",
        b"Short. " * 7,
        b"| a | b |\n|---|---|\n" + b"-" * 200,
        b"".join(b"%d, " % n for n in range(300)),  # counts on
        bytes(range(256)) * 7,
    ],
)
def test_ordinary_text_is_no_loop(text: bytes) -> None:
    assert not is_looping(text)


def test_a_loop_that_was_left_is_none() -> None:
    assert not is_looping(b"ha" * 500 + b" and so on.")


def test_units_beyond_the_longest_period_are_not_looked_for() -> None:
    longest = bytes(n % 251 for n in range(MAX_PERIOD_BYTES))
    assert is_looping(longest * MIN_REPEATS)
    assert not is_looping((longest + b"!") * MIN_REPEATS)

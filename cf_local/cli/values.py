"""Values of options that click does not know: sizes, and on or off."""

import re

import click

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Size(click.ParamType[int]):
    """Bytes: 4GB and 4G are 4,000,000,000, 4GiB is a little more."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The bytes of a text."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write it as 500MB or 4GB.", param, ctx)
        return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])


class OnOff(click.ParamType[bool]):
    """The words on and off."""

    name = "on|off"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool:
        """Whether it is on."""
        if isinstance(value, bool):
            return value
        if value not in ("on", "off"):
            self.fail(f"{value!r} is neither on nor off.", param, ctx)
        return value == "on"

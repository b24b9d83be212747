"""Numbers of options, as JSON can have them, and times."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


class Finite(click.FloatRange):
    """A number in a range, if one is given; neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises: click.BadParameter."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


def seconds_of(text: str) -> int | None:
    """What 45m, 12h or 90d is in seconds; None if it is no such text."""
    found = re.fullmatch(r"(\d{1,5})([mhd])", text)
    return int(found[1]) * _UNITS[found[2]] if found else None

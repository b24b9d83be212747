"""What keeps hostile schemas, regexes and grammars from costing anybody but their sender: errors, and a budget of work.

Web processes run many requests in one thread: whoever works for long gives way to the others now and then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

#: Steps after which others get their turn.
_TURN = 2_000


class Refused(Exception):
    """A schema, regex or grammar that can't be done.

    `place` is a JSON pointer into the schema, or a line of the grammar; `keyword` what can't be done.
    """

    def __init__(self, text: str, *, place: str = "", keyword: str = "") -> None:
        self.text, self.place, self.keyword = text, place, keyword
        where = f" at {place}" if place else ""
        super().__init__(f"{keyword}{where}: {text}" if keyword else f"{text}{where}")

    def at(self, path: Sequence[str | int], keyword: str = "") -> Refused:
        """The same with its place, unless it has one."""
        place = self.place or pointer(path)
        return Refused(self.text, place=place, keyword=self.keyword or keyword)


class TooLarge(Refused):
    """It takes more rules, states or steps than one request may."""


class Fuel:
    """A budget of steps. Raises: TooLarge when it is spent."""

    def __init__(self, steps: int, what: str = "It") -> None:
        self.left, self.what = steps, what

    def burn(self, steps: int = 1) -> None:
        """Raises: TooLarge."""
        before = self.left
        self.left -= steps
        if self.left < 0:
            raise TooLarge(f"{self.what} is too large or too ambiguous; make it simpler.")
        if before // _TURN != self.left // _TURN:
            time.sleep(0)


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer, `#` for the root."""
    return "#" + "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in path)

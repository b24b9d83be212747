"""Bounds that are checked before a schema loads a request: a schema takes some microseconds for each field, and makes a
text for each error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from marshmallow import ValidationError

#: How deeply a whole request may be nested.
MAX_BODY_DEPTH = 100
#: Most errors that are looked for in one list or object, and reported for one request.
MAX_ERRORS = 20
#: List items that are read before other greenlets get their turn.
_TURN = 64


def require_bounded(body: dict[str, Any], most: int) -> None:
    """Check the size of a JSON object, at little cost.

    Raises: ValidationError if it holds more than `most` objects, lists and fields of objects, or is nested too deeply.
    """
    count = 0
    for depth, level in enumerate(_levels(body)):
        count += sum(1 + len(value) if isinstance(value, dict) else 1 for value in level)
        if count > most:
            raise ValidationError(
                f"Holds more than {most} objects, lists and fields, which is the limit. Send fewer messages, parts or "
                "inputs."
            )
        if depth > MAX_BODY_DEPTH:
            deep = next(name for name, value in body.items() if _is_deep(value))
            raise ValidationError({deep: [f"Is nested deeper than {MAX_BODY_DEPTH} levels."]})


def give_way(index: int) -> None:
    """Call this for each item of a long list: it lets other greenlets run now and then."""
    if index % _TURN == _TURN - 1:
        time.sleep(0)


def _levels(value: Any) -> Iterator[list[Any]]:
    """The objects and lists in a value, level by level, from the outermost."""
    level = [value] if isinstance(value, dict | list) else []
    while level:
        yield level
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]


def _is_deep(value: Any) -> bool:
    return any(True for _ in islice(_levels(value), MAX_BODY_DEPTH, None))

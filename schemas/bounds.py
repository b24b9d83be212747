"""How much a request may hold, before a schema looks at it: what a schema does costs some microseconds for each field,
and says something of each that is wrong.
"""

from __future__ import annotations

import time
from typing import Any

from marshmallow import ValidationError

#: How deeply a whole request may be nested.
MAX_BODY_DEPTH = 100
#: Flaws that are looked for in one list or object, and told of one request.
MAX_ERRORS = 20
#: Items of a list that are read before others have their turn.
_TURN = 64


def require_bounded(body: Any, most: int) -> None:
    """Raises: ValidationError if a JSON value has more than `most` objects, lists and fields of objects, or is nested
    too deeply. Costs little, however much it is.
    """
    level, count = [body], 0
    for _ in range(MAX_BODY_DEPTH):
        count += sum(len(value) if isinstance(value, dict) else 1 for value in level)
        if count > most:
            raise ValidationError(
                f"Holds more than {most} objects, lists and fields, which is the limit. Send fewer messages, parts or "
                "inputs."
            )
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValidationError(f"Is nested deeper than {MAX_BODY_DEPTH} levels.")


def give_way(index: int) -> None:
    """To be called for each item of a long list: gives other requests their turn now and then."""
    if index % _TURN == _TURN - 1:
        time.sleep(0)

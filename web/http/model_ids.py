"""Model ids in paths: they may hold `/`, but are never mistaken for another path."""

from __future__ import annotations

from typing import Any

from werkzeug.routing import PathConverter

from schemas.catalog import RESERVED_FIRST, RESERVED_LAST


class ModelIdConverter(PathConverter):
    """`<model:model_id>` in a rule. What the catalog forbids as an id does not match."""

    regex = f"(?!(?:{'|'.join(RESERVED_FIRST)})(?:/|$))[^/].*?" + "".join(f"(?<!/{word})" for word in RESERVED_LAST)


def path_parameter(_: ModelIdConverter) -> dict[str, Any]:
    """The converter as JSON schema."""
    return {
        "type": "string",
        "minLength": 1,
        "description": "Id of a model; a `/` in it may stand as it is, or be sent as `%2F`",
        "example": "smollm2-135m",
    }

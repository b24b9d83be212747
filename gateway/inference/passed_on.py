"""Which fields of a request have no effect on the model that takes it: below `/v1` they are named, not refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.models.entry import Model
from gateway.models.protocols import PASSED_ON, unsendable
from schemas.lenient.known_fields import ignored


def unused_fields(model: Model, request: Mapping[str, Any]) -> list[str]:
    """Their names, in order. A local model is passed nothing that we do not read ourselves."""
    return ignored(request.get(PASSED_ON) or {}) if model.local else unsendable(model, request)

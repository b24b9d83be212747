"""Checks a request against what its model allows, and fills in what the client left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.inference.abilities import beyond
from gateway.inference.exact_resume import not_kept
from gateway.inference.local_limits import only_remote
from gateway.models.entry import Model
from gateway.models.protocols import refusals, unsendable, without

#: Values at which sampling changes nothing.
_AT_REST = {"temperature": 1, "top_p": 1}


def with_defaults(model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the model's defaults.

    Raises:
        InvalidRequest: naming each field, its value and what is allowed.
    """
    if request.get("tools"):
        model.require("tool_use")
    full = dict(request)
    errors: dict[str, list[str]] = {}
    for name, limits in model.ranges.items():
        value = full.get(name)
        if value is not None and not limits.min <= value <= limits.max:
            errors[name] = [f"Got {value}; {model.id} allows {limits.min} to {limits.max}."]
    # Parameters that are not given are left to the provider: some have other defaults, some accept none.
    may_be_remote = not model.local or bool(model.fallbacks)
    left = sampling(model, request)
    full |= {name: value for name, value in left.items() if not may_be_remote or value != _AT_REST.get(name)}
    full = without(full, [name for name in unsendable(model, full) if name in left])
    wanted = full.setdefault("max_tokens", None)
    if wanted is not None and not (1 if may_be_remote else 0) <= wanted <= model.longest_answer:
        errors["max_tokens"] = [f"Got {wanted}; {model.id} allows 1 to {model.longest_answer}."]
    errors = (_beyond_local(model, request) if model.local else refusals(model, request)) | errors
    errors |= not_kept(model, {**request, **left})
    if errors:
        raise InvalidRequest.of(errors)
    return full


def sampling(model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
    """The model's defaults for sampling parameters that a request leaves out."""
    return {name: limits.default for name, limits in model.ranges.items() if request.get(name) is None}


def check_embedding(model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it is. Raises: InvalidRequest if the model has no vectors of that size."""
    wanted = request.get("dimensions")
    if wanted is None or wanted == model.dimensions or not model.local:
        return dict(request)
    makes = f"{model.id} makes vectors of {model.dimensions or 'one size'}"
    if not model.shortens_vectors:
        raise InvalidRequest.of({"dimensions": [f"Got {wanted}; {makes} and can't shorten them. Leave it out."]})
    if model.dimensions and wanted > model.dimensions:
        raise InvalidRequest.of({"dimensions": [f"Got {wanted}; {makes} or fewer numbers."]})
    return dict(request)


def _beyond_local(model: Model, request: Mapping[str, Any]) -> dict[str, list[str]]:
    return only_remote(request) | beyond(model, request)

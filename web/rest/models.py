"""The model list and a model's details."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response
from flask_smorest import Blueprint

from gateway.catalog import Model, Range
from schemas.envelope import enveloped
from schemas.models import ModelDetailSchema, ModelListSchema
from web.auth import authenticate
from web.envelope import gateway, success

blueprint = Blueprint("models", __name__, url_prefix="/models", description="What this gateway serves")
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.response(200, enveloped(ModelListSchema))
def models() -> Response:
    """All models of the catalog."""
    return success({"models": [_entry(model) for model in gateway().catalog]})


@blueprint.route("/<path:model_id>")
@blueprint.response(200, enveloped(ModelDetailSchema))
def model(model_id: str) -> Response:
    """One model, with parameter ranges, price and statistics."""
    found = gateway().catalog.get(model_id)
    parameters = {
        "max_tokens": found.max_tokens,
        "temperature": _range(found.temperature),
        "top_p": _range(found.top_p),
        "context_length": found.context_length,
    }
    pricing = asdict(found.pricing)
    return success(
        {
            **_entry(found),
            "parameters": parameters,
            "pricing": pricing,
            "stats": gateway().inference.stats(found),
        }
    )


def _entry(model: Model) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "version": model.version,
        "capabilities": list(model.capabilities),
        "provider": model.provider,
        "status": gateway().inference.model_status(model),
    }
    replicas = gateway().registry.replicas(model.id)
    if replicas:
        hardware = replicas[0].hardware
        entry["deployment"] = {"type": "local", "hardware": hardware, "quantization": model.quantization or "none"}
    return entry


def _range(limits: Range) -> dict[str, float]:
    return {"min": limits.min, "max": limits.max, "default": limits.default}

"""The model list and a model's details."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from schemas.envelope import enveloped
from schemas.models import ModelDetailSchema, ModelListSchema
from web.http.auth import authenticate
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("models", __name__, url_prefix="/models", description="What this gateway serves")
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.response(200, enveloped(ModelListSchema))
def models() -> Response:
    """All models of the catalog that the key may use."""
    return success({"models": gateway().models.list(caller())})


@blueprint.route("/<model:model_id>")
@blueprint.response(200, enveloped(ModelDetailSchema))
def model(model_id: str) -> Response:
    """One model, with parameter ranges, price and statistics."""
    return success(gateway().models.detail(model_id, caller()))

"""The models of the catalog: list, read, add, change and remove them."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from schemas.catalog_changes import (
    AdditionSchema,
    AddModelRequest,
    AddModelRequestSchema,
    ModelTableSchema,
    RemovedModelSchema,
    RemoveModelQuerySchema,
)
from schemas.envelope import enveloped
from schemas.examples import ADD_MODEL, CHANGE_MODEL
from schemas.models import ModelDetailSchema, ModelListSchema, ModelsQuerySchema
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("models", __name__, url_prefix="/models", description="What this gateway serves")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(ModelsQuerySchema, location="query")
@blueprint.response(200, enveloped(ModelListSchema))
def models(query: dict[str, str]) -> Response:
    """All models of the catalog that the key may use."""
    return success({"models": gateway().models.list(caller(), **query)})


@blueprint.route("/<model:model_id>")
@blueprint.response(200, enveloped(ModelDetailSchema))
def model(model_id: str) -> Response:
    """One model, with parameter ranges, price and statistics."""
    return success(gateway().models.detail(model_id, caller()))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(AddModelRequestSchema(), examples=ADD_MODEL)
@blueprint.response(202, enveloped(AdditionSchema))
@blueprint.alt_response(201, schema=enveloped(ModelDetailSchema))
def add(body: AddModelRequest) -> Response:
    """Add a model: by a name, which a job looks up (202), or by its whole table (201). Scope admin."""
    begun = gateway().catalog_editor.add(body, key=caller())
    if begun:
        return success(begun, status=202)
    return success(gateway().models.detail(body.id, caller()), status=201)


@blueprint.route("/<model:model_id>", methods=["PATCH"])
@blueprint.arguments(ModelTableSchema(), examples=CHANGE_MODEL)
@blueprint.response(200, enveloped(ModelDetailSchema))
def change(table: dict[str, Any], model_id: str) -> Response:
    """Change fields of a model that was added; null takes one out. Scope admin."""
    gateway().catalog_editor.change(model_id, table, key=caller())
    return success(gateway().models.detail(model_id, caller()))


@blueprint.route("/<model:model_id>", methods=["DELETE"])
@blueprint.arguments(RemoveModelQuerySchema, location="query")
@blueprint.response(200, enveloped(RemovedModelSchema))
def remove(query: dict[str, Any], model_id: str) -> Response:
    """Remove a model that was added, and unload it. Scope admin."""
    found = gateway()
    return success(found.catalog_editor.remove(model_id, key=caller(), deployments=found.deployments, **query))

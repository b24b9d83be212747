"""The models of the catalog: list, read, add, change and remove them; and what is resident here."""

from __future__ import annotations

from gateway.views.local_models import local_models
from schemas.catalog_changes import AddModelRequest, AddModelRequestSchema, ModelTableSchema
from web.rpc.call import Call
from web.rpc.messages import build, to_dict
from web.rpc.stubs import model_pb2 as pb


def list_models(call: Call, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
    """All models of the catalog that the key may use."""
    return build(pb.ListModelsResponse, {"models": call.gateway.models.list(call.key, requested=request.requested)})


def get_model(call: Call, request: pb.GetModelRequest) -> pb.GetModelResponse:
    """One model, with parameter ranges, price and statistics."""
    return build(pb.GetModelResponse, call.gateway.models.detail(request.model_id, call.key))


def add_model(call: Call, request: pb.AddModelRequest) -> pb.AddModelResponse:
    """Add a model by a name, which a job looks up, or by its whole table."""
    body: AddModelRequest = AddModelRequestSchema().load(to_dict(request))
    begun = call.gateway.catalog_editor.add(body, key=call.key)
    if begun:
        return build(pb.AddModelResponse, begun)
    return build(pb.AddModelResponse, {"model": call.gateway.models.detail(body.id, call.key)})


def change_model(call: Call, request: pb.ChangeModelRequest) -> pb.GetModelResponse:
    """Change fields of a model that was added; null takes one out."""
    table = ModelTableSchema().load(to_dict(request.model))
    call.gateway.catalog_editor.change(request.model_id, table, key=call.key)
    return build(pb.GetModelResponse, call.gateway.models.detail(request.model_id, call.key))


def remove_model(call: Call, request: pb.RemoveModelRequest) -> pb.RemoveModelResponse:
    """Remove a model that was added, and unload it."""
    found = call.gateway
    gone = found.catalog_editor.remove(
        request.model_id, files=request.files, key=call.key, deployments=found.deployments
    )
    return build(pb.RemoveModelResponse, gone)


def list_local_models(call: Call, _: pb.ListLocalModelsRequest) -> pb.ListLocalModelsResponse:
    """The models that have a replica."""
    return build(pb.ListLocalModelsResponse, {"models": local_models(call.gateway.inference, call.key)})

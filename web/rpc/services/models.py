"""The model list, a model's details, and what is resident here."""

from __future__ import annotations

from gateway.views.local_models import local_models
from web.rpc.call import Call
from web.rpc.messages import build
from web.rpc.stubs import model_pb2 as pb


def list_models(call: Call, _: pb.ListModelsRequest) -> pb.ListModelsResponse:
    """All models of the catalog that the key may use."""
    return build(pb.ListModelsResponse, {"models": call.gateway.models.list(call.key)})


def get_model(call: Call, request: pb.GetModelRequest) -> pb.GetModelResponse:
    """One model, with parameter ranges, price and statistics."""
    return build(pb.GetModelResponse, call.gateway.models.detail(request.model_id, call.key))


def list_local_models(call: Call, _: pb.ListLocalModelsRequest) -> pb.ListLocalModelsResponse:
    """The models that have a replica."""
    return build(pb.ListLocalModelsResponse, {"models": local_models(call.gateway.inference, call.key)})

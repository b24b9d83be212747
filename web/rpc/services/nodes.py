"""The machines of this installation: list and label them, keep new replicas off them, forget them."""

from __future__ import annotations

from dataclasses import asdict

from gateway.cluster.nodes import Place
from gateway.views.nodes import NodeViews
from schemas.cluster.nodes import NodeChangeSchema
from web.rpc.call import Call
from web.rpc.messages import build
from web.rpc.stubs import model_pb2 as pb


def list_nodes(call: Call, _: pb.ListNodesRequest) -> pb.ListNodesResponse:
    """All nodes, also those that are gone."""
    call.key.require("deploy")
    return build(pb.ListNodesResponse, {"nodes": _views(call).all()})


def get_node(call: Call, request: pb.GetNodeRequest) -> pb.Node:
    """One node."""
    call.key.require("deploy")
    return build(pb.Node, _views(call).one(request.name))


def update_node(call: Call, request: pb.UpdateNodeRequest) -> pb.Node:
    """Set and remove labels."""
    call.key.require("admin")
    changes = {**dict(request.labels), **dict.fromkeys(request.remove_labels)}
    call.gateway.nodes.label(request.name, NodeChangeSchema().load({"labels": changes})["labels"])
    return build(pb.Node, _views(call).one(request.name))


def forget_node(call: Call, request: pb.ForgetNodeRequest) -> pb.ForgetNodeResponse:
    """Remove a node that is gone, and what it should have run."""
    call.key.require("admin")
    dropped = call.gateway.draining.forget(request.name, key=call.key)
    return pb.ForgetNodeResponse(name=request.name, dropped_replicas=dropped)


def drain_node(call: Call, request: pb.DrainNodeRequest) -> pb.DrainNodeResponse:
    """Move its replicas elsewhere where they fit, and give it no new ones."""
    call.key.require("admin")
    moves = call.gateway.draining.drain(_place(request), key=call.key, force=request.force)
    node = _views(call).one(request.name)
    return build(pb.DrainNodeResponse, {"node": node, "models": [asdict(move) for move in moves]})


def cordon_node(call: Call, request: pb.CordonNodeRequest) -> pb.Node:
    """Give it no new replicas; those that it has stay."""
    call.key.require("admin")
    call.gateway.draining.cordon(_place(request), key=call.key)
    return build(pb.Node, _views(call).one(request.name))


def uncordon_node(call: Call, request: pb.UncordonNodeRequest) -> pb.Node:
    """Let it take new replicas again, also after a drain."""
    call.key.require("admin")
    call.gateway.draining.uncordon(_place(request), key=call.key)
    return build(pb.Node, _views(call).one(request.name))


def _place(request: pb.DrainNodeRequest | pb.CordonNodeRequest | pb.UncordonNodeRequest) -> Place:
    return Place(request.name, request.device)


def _views(call: Call) -> NodeViews:
    return NodeViews(call.gateway.nodes, call.gateway.registry, call.gateway.deployments.desired)

"""The machines of this installation: list and label them, keep new replicas off them, forget them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response
from flask_smorest import Blueprint

from gateway.cluster.nodes import Place
from gateway.views.nodes import NodeViews
from schemas.cluster.nodes import (
    DrainQuerySchema,
    DrainSchema,
    ForgottenNodeSchema,
    HoldQuerySchema,
    NodeChangeSchema,
    NodeListSchema,
    NodeSchema,
)
from schemas.envelope import enveloped
from schemas.examples import NODE_CHANGE
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("nodes", __name__, url_prefix="/nodes", description="The machines of this installation")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.response(200, enveloped(NodeListSchema))
def nodes() -> Response:
    """All nodes, also those that are gone, until they are forgotten. Scope deploy."""
    caller().require("deploy")
    return success({"nodes": _views().all()})


@blueprint.route("/<name>")
@blueprint.response(200, enveloped(NodeSchema))
def node(name: str) -> Response:
    """One node: its state, devices, replicas, version and labels, and when it was last seen. Scope deploy."""
    caller().require("deploy")
    return success(_views().one(name))


@blueprint.route("/<name>", methods=["PATCH"])
@blueprint.arguments(NodeChangeSchema(), examples=NODE_CHANGE)
@blueprint.response(200, enveloped(NodeSchema))
def update(body: dict[str, Any], name: str) -> Response:
    """Set and remove labels, which `target_nodes` may name as `label:KEY=VALUE`. Scope admin."""
    caller().require("admin")
    gateway().nodes.label(name, body["labels"])
    return success(_views().one(name))


@blueprint.route("/<name>", methods=["DELETE"])
@blueprint.response(200, enveloped(ForgottenNodeSchema))
def forget(name: str) -> Response:
    """Remove a node that is gone from the list, and what it should have run. Scope admin."""
    caller().require("admin")
    return success({"name": name, "dropped_replicas": gateway().draining.forget(name, key=caller())})


@blueprint.route("/<name>/drain", methods=["POST"])
@blueprint.arguments(DrainQuerySchema, location="query")
@blueprint.response(200, enveloped(DrainSchema))
def drain(query: dict[str, Any], name: str) -> Response:
    """Move the replicas of a node, or of one of its devices, elsewhere, where they fit, and give it no new ones.

    Its running requests end first, or go on elsewhere. Ask again to plan what could not move before. Scope admin.
    """
    caller().require("admin")
    moves = gateway().draining.drain(Place(name, query["device"]), key=caller(), force=query["force"])
    return success({"node": _views().one(name), "models": [asdict(move) for move in moves]})


@blueprint.route("/<name>/cordon", methods=["POST"])
@blueprint.arguments(HoldQuerySchema, location="query")
@blueprint.response(200, enveloped(NodeSchema))
def cordon(query: dict[str, str], name: str) -> Response:
    """Give a node, or one of its devices, no new replicas; those that it has stay. Scope admin."""
    caller().require("admin")
    gateway().draining.cordon(Place(name, query["device"]), key=caller())
    return success(_views().one(name))


@blueprint.route("/<name>/uncordon", methods=["POST"])
@blueprint.arguments(HoldQuerySchema, location="query")
@blueprint.response(200, enveloped(NodeSchema))
def uncordon(query: dict[str, str], name: str) -> Response:
    """Let a node, or one of its devices, take new replicas again, also after a drain. Scope admin."""
    caller().require("admin")
    gateway().draining.uncordon(Place(name, query["device"]), key=caller())
    return success(_views().one(name))


def _views() -> NodeViews:
    return NodeViews(gateway().nodes, gateway().registry, gateway().deployments.desired)

"""Deployments over the REST interface, for tests: begin one, look at it, wait for its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from gateway.cluster.known_footprints import Footprints
from gateway.cluster.nodes import Nodes
from tests.stack import Stack, eventually

ENDS = ("completed", "failed", "cancelled")


def deploy(client: httpx.Client, model: str, **body: Any) -> dict[str, Any]:
    """A deployment that has begun."""
    response = client.post("/models/local/deploy", json={"model_type": model, **body})
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert isinstance(data, dict)
    return data


def status(client: httpx.Client, deployment: dict[str, Any]) -> dict[str, Any]:
    """How it stands."""
    response = client.get(deployment["progress_url"])
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert isinstance(data, dict)
    return data


def ended(client: httpx.Client, deployment: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    """How it is at its end."""

    def look() -> dict[str, Any] | None:
        data = status(client, deployment)
        return data if data["status"] in ENDS else None

    found = eventually(look, f"deployment of {deployment['model_id']} ends", timeout_s)
    assert isinstance(found, dict)
    return found


@contextmanager
def small_device(stack: Stack, model: str) -> Iterator[str]:
    """A node with little free memory, as its agent would announce it and what it knows of a model. Gives its name."""
    (here,) = stack.registry.devices()
    small = replace(here, incarnation="agent.small.cpu0:0", node="small", memory_free=1_200_000_000)
    footprints = Footprints(stack.redis)
    found = eventually(lambda: footprints.get(here, model), f"{model} is measured")
    footprints.publish(*small.address, {model: found})
    stack.registry.beat_device(small, lease_s=60)
    nodes = Nodes(stack.redis)
    nodes.note(small)
    try:
        yield small.node
    finally:
        stack.registry.deregister(small.incarnation)
        nodes.forget(small.node)

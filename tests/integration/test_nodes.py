"""Two nodes of one installation, as operators handle them over both faces and from a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest

from gateway.cluster.nodes import Nodes
from tests.deployments import deploy, ended
from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.stack import KEY, REPOSITORY, Stack, chat, eventually, running
from web.rpc.stubs import model_pb2 as pb

CATALOG = """
[models.moved]
capabilities = ["chat", "completion"]
engine = "fake"
options = { step_s = 0.02 }

[models.resident]
capabilities = ["chat"]
engine = "fake"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {}, catalog=CATALOG, labels="zone=a") as stack:
        start_rpc(stack)
        yield stack


@contextmanager
def second_node(stack: Stack, labels: str = "gpu=fast") -> Iterator[str]:
    settings = replace(stack.settings, node="n2", labels=labels)
    stack.start("agent-n2", settings=settings)
    eventually(lambda: {device.node for device in stack.registry.devices()} == {"n1", "n2"}, "both nodes live")
    eventually(lambda: "n2" in names(stack), "it is listed")
    try:
        yield "n2"
    finally:
        stack.kill("agent-n2", signal.SIGTERM)
        Nodes(stack.redis).forget("n2")


@contextmanager
def second_device(stack: Stack) -> Iterator[str]:
    stack.start("agent-cpu1", settings=replace(stack.settings, device="cpu1"))
    try:
        eventually(lambda: devices(stack).keys() == {"cpu0", "cpu1"}, "both devices are there")
        yield "n1.cpu1"
    finally:
        stack.kill("agent-cpu1", signal.SIGTERM)


def devices(stack: Stack) -> dict[str, str]:
    """The devices of n1, and their states."""
    with stack.client() as client:
        return {one["device"]: one["state"] for one in data(client.get("/nodes/n1"))["devices"]}


def devices_of(client: httpx.Client, model: str) -> list[str]:
    found = data(client.get("/nodes/n1"))["replicas"]
    return sorted(one["device"] for one in found if one["model_id"] == model)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def data(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()["data"]


def names(stack: Stack) -> list[str]:
    with stack.client() as client:
        return [node["name"] for node in data(client.get("/nodes"))["nodes"]]


def state(client: httpx.Client, name: str) -> str:
    return str(data(client.get(f"/nodes/{name}"))["state"])


def headrace(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *words, "--url", stack.url, "--key", KEY]
    environ = {**os.environ, **stack.settings.environ()}
    return subprocess.run(
        command, check=False, env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


def nodes_of(client: httpx.Client, model: str) -> list[str]:
    local = {one["id"]: one for one in data(client.get("/models/local"))["models"]}
    return sorted(one["node_id"] for one in local.get(model, {"replicas": []})["replicas"])


def test_a_node_is_listed_with_what_it_is_and_stays_so_when_it_is_gone(stack: Stack, client: httpx.Client) -> None:
    with second_node(stack):
        node = data(client.get("/nodes/n2"))
        assert (node["state"], node["labels"]) == ("ready", {"gpu": "fast"})
        assert node["version"] == data(client.get("/nodes/n1"))["version"] != ""
        (device,) = node["devices"]
        assert (device["device"], device["alive"]) == ("cpu0", True)
        assert device["memory_bytes"] > device["memory_free_bytes"] > 0
        assert "fake" in device["engines"]
        refused = client.delete("/nodes/n2")
        assert (refused.status_code, refused.json()["data"]["reason"]) == (409, "node_alive")
        stack.kill("agent-n2")
        eventually(lambda: state(client, "n2") == "gone", "its lease is over")
        gone = data(client.get("/nodes/n2"))
        assert gone["last_seen"] >= node["last_seen"]
        assert gone["devices"][0]["alive"] is False
        shown = headrace(stack, "nodes")
        assert "gone" in next(line for line in shown.stdout.splitlines() if line.startswith("n2"))
        assert headrace(stack, "nodes", "forget", "n2").stdout == "n2: forgotten\n"
        assert names(stack) == ["n1"]
        assert client.get("/nodes/n2").status_code == 404
        stack.start("agent-n2", settings=replace(stack.settings, node="n2"))
        eventually(lambda: "n2" in names(stack), "it has come back")


def test_labels_choose_where_a_model_goes(stack: Stack, client: httpx.Client) -> None:
    def planned(target: str) -> httpx.Response:
        return client.post(
            "/models/local/deploy", json={"model_type": "moved", "target_nodes": [target], "dry_run": True}
        )

    with second_node(stack):
        assert list(data(planned("label:gpu=fast"))["memory_plan"]) == ["n2.cpu0"]
        assert headrace(stack, "nodes", "label", "n1", "gpu=slow", "zone-").returncode == 0
        assert data(client.get("/nodes/n1"))["labels"] == {"gpu": "slow"}
        assert list(data(planned("label:gpu=slow"))["memory_plan"]) == ["n1.cpu0"]
        refused = planned("label:gpu=none")
        assert refused.status_code == 503
        assert "no node with 'label:gpu=none'" in refused.json()["message"]
    wrong = client.patch("/nodes/n1", json={"labels": {"a b": "c"}})
    assert wrong.status_code == 422
    assert "a label is KEY=VALUE" in wrong.json()["message"]
    data(client.patch("/nodes/n1", json={"labels": {"gpu": None}}))


def test_a_cordoned_node_keeps_what_it_has_and_gets_nothing_new(stack: Stack, client: httpx.Client) -> None:
    with second_node(stack), rpc_client(stack) as rpc:
        assert headrace(stack, "nodes", "cordon", "n2").returncode == 0
        assert state(client, "n2") == "cordoned"
        for target, reason in (
            ("n2", "n2 is cordoned, so it takes no new replicas"),
            ("n2.cpu0", "headrace undrain n2"),
        ):
            refused = client.post("/models/local/deploy", json={"model_type": "moved", "target_nodes": [target]})
            assert refused.status_code == 503
            assert reason in refused.json()["message"]
        dry = data(client.post("/models/local/deploy", json={"model_type": "moved", "replicas": 2, "dry_run": True}))
        assert list(dry["memory_plan"]) == ["n1.cpu0"]
        assert rpc.call("UncordonNode", pb.UncordonNodeRequest(name="n2")).state == "ready"


def test_a_drained_node_is_empty_and_no_request_has_failed(stack: Stack, client: httpx.Client) -> None:
    with second_node(stack):
        assert ended(client, deploy(client, "moved", target_nodes=["n1", "n2"]))["status"] == "completed"
        streams = [chat(stack, model="moved", max_tokens=150) for _ in range(8)]
        eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all run")
        drained = headrace(stack, "nodes", "drain", "n1")
        assert drained.returncode == 0, drained.stderr
        assert "moved: moves elsewhere (deployment" in drained.stdout
        assert "n1: empty, and takes no new replicas" in drained.stdout
        assert state(client, "n1") == "cordoned"
        assert nodes_of(client, "moved") == ["n2", "n2"]
        noted = [one["action"] for one in data(client.get("/audit", params={"limit": 2}))["entries"]]
        assert noted == ["node.drain", "model.deploy"], "it is asked for again and again, and noted once"
        for stream in streams:
            assert stream.join().error is None
            assert stream.finish_reason == "length"
        assert headrace(stack, "nodes", "uncordon", "n1").returncode == 0
        client.delete("/models/local/moved")
        eventually(lambda: nodes_of(client, "moved") == [], "it is unloaded")


@pytest.mark.parametrize("victim", ["web", "redis", "agent-n2"])
def test_a_drain_goes_on_whoever_is_away_for_a_while(stack: Stack, client: httpx.Client, victim: str) -> None:
    with second_node(stack), ThreadPoolExecutor(1) as pool:
        assert ended(client, deploy(client, "moved", target_nodes=["n1", "n2"]))["status"] == "completed"
        streams = [chat(stack, model="moved", max_tokens=250) for _ in range(8)]
        eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all run")
        draining = pool.submit(headrace, stack, "drain", "n1")
        eventually(lambda: state(client, "n1") != "ready", "it has begun")
        stack.kill(victim)
        time.sleep(1)  # the command asks twice a second
        if victim == "redis":
            stack.start_redis()
        else:
            stack.start(victim, settings=replace(stack.settings, node="n2") if victim == "agent-n2" else None)
        drained = draining.result()
        assert drained.returncode == 0, drained.stderr
        assert len(re.findall(r"moves elsewhere \(deployment [^)]*\)$", drained.stdout, re.MULTILINE)) == 1
        assert nodes_of(client, "moved") == ["n2", "n2"]
        for stream in streams:
            assert (stream.join().error, stream.finish_reason) == (None, "length")
        headrace(stack, "undrain", "n1")
        client.delete("/models/local/moved")
        eventually(lambda: nodes_of(client, "moved") == [], "it is unloaded")


def test_a_drained_device_is_empty_gets_nothing_new_and_no_request_has_failed(
    stack: Stack, client: httpx.Client
) -> None:
    """Also after its agent was killed, and when that has models to serve from its start."""
    with second_device(stack):
        assert ended(client, deploy(client, "moved", target_nodes=["n1.cpu0", "n1.cpu1"]))["status"] == "completed"
        streams = [chat(stack, model="moved", max_tokens=150) for _ in range(8)]
        eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all run")
        over = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask_on, stack, over) for _ in range(4)]
            drained = headrace(stack, "drain", "n1.cpu1")
            over.set()
        assert drained.returncode == 0, drained.stderr
        assert "n1.cpu1: empty, and takes no new replicas; 'headrace undrain n1.cpu1' ends that" in drained.stdout
        for stream in streams:
            assert (stream.join().error, stream.finish_reason) == (None, "length")
        assert {status for one in asking for status in one.result()} == {200}
        assert devices_of(client, "moved") == ["cpu0", "cpu0"]
        assert devices(stack) == {"cpu0": "ready", "cpu1": "cordoned"}
        assert state(client, "n1") == "ready"
        noted = data(client.get("/audit", params={"limit": 10}))["entries"]
        assert ("node.drain", "n1.cpu1") in [(one["action"], one["target"]) for one in noted]

        stack.kill("agent-cpu1")
        stack.start("agent-cpu1", settings=replace(stack.settings, device="cpu1", resident_models="resident"))
        eventually(lambda: devices(stack)["cpu1"] == "cordoned", "its agent is back")
        body = {"model_type": "moved", "target_nodes": ["n1.cpu1"]}
        refused = client.post("/models/local/deploy", json=body)
        assert (refused.status_code, "headrace undrain n1.cpu1" in refused.json()["message"]) == (503, True)
        planned = data(client.post("/models/local/deploy", json={**body, "target_nodes": ["n1"], "dry_run": True}))
        assert list(planned["memory_plan"]) == ["n1.cpu0"]
        assert devices_of(client, "resident") == []
        assert "  held     n1.cpu1: cordoned" in headrace(stack, "status").stdout

        released = headrace(stack, "undrain", "n1.cpu1", "--json")
        assert [one["state"] for one in json.loads(released.stdout)["devices"]] == ["ready", "ready"]
        eventually(lambda: devices_of(client, "resident") == ["cpu1"], "it begins what it is there for")
        for model in ("moved", "resident"):
            client.delete(f"/models/local/{model}")
            eventually(lambda model=model: devices_of(client, model) == [], "it is unloaded")


def ask_on(stack: Stack, over: threading.Event) -> list[int]:
    """Ask again and again, until it is over. Returns the statuses."""
    found = []
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    with stack.client() as client:
        while not over.is_set():
            found.append(client.post("/models/moved/chat/completions", json=body).status_code)
    return found


def test_a_device_that_is_not_there_is_named(stack: Stack, client: httpx.Client) -> None:
    unknown = headrace(stack, "drain", "n1.cuda7")
    assert (unknown.returncode, "Node 'n1' has no device 'cuda7'; it has: cpu0" in unknown.stderr) == (1, True)
    assert client.post("/nodes/n1/cordon", params={"device": "cuda7"}).json()["data"]["reason"] == "device_not_found"
    assert "There is no node 'n9.cpu0'" in headrace(stack, "drain", "n9.cpu0").stderr


def test_what_fits_nowhere_else_stays_unless_it_is_forced(stack: Stack, client: httpx.Client) -> None:
    assert ended(client, deploy(client, "moved"))["status"] == "completed"
    stays = headrace(stack, "nodes", "drain", "n1")
    assert stays.returncode == 1
    assert "moved: stays: No device that takes new replicas is alive" in stays.stdout
    assert "With --force it is unloaded" in stays.stderr
    assert state(client, "n1") == "draining"
    assert chat(stack, model="moved", max_tokens=3).join().error is None
    forced = headrace(stack, "nodes", "drain", "n1", "--force")
    assert forced.returncode == 0, forced.stderr
    assert "moved: ends here" in forced.stdout
    data(client.post("/nodes/n1/uncordon"))


def test_both_faces_tell_the_same(stack: Stack, client: httpx.Client) -> None:
    with rpc_client(stack) as rpc, second_node(stack):
        listed = rpc.call("ListNodes", pb.ListNodesRequest()).nodes
        assert [node.name for node in listed] == ["n1", "n2"]
        labels = {"rack": "7"}
        changed = rpc.call("UpdateNode", pb.UpdateNodeRequest(name="n2", labels=labels, remove_labels=["gpu"]))
        assert dict(changed.labels) == labels == data(client.get("/nodes/n2"))["labels"]
        assert "fake" in rpc.call("GetNode", pb.GetNodeRequest(name="n2")).devices[0].engines
        of_device = rpc.call("CordonNode", pb.CordonNodeRequest(name="n2", device="cpu0"))
        assert (of_device.state, of_device.devices[0].state) == ("ready", "cordoned")
        rpc.call("UncordonNode", pb.UncordonNodeRequest(name="n2", device="cpu0"))
        assert rpc.call("CordonNode", pb.CordonNodeRequest(name="n2")).state == "cordoned"
        drained = rpc.call("DrainNode", pb.DrainNodeRequest(name="n2"))
        assert (drained.node.state, list(drained.models)) == ("cordoned", [])
        with pytest.raises(grpc.RpcError) as alive:
            rpc.call("ForgetNode", pb.ForgetNodeRequest(name="n2"))
        assert alive.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.RpcError) as unknown:
            rpc.call("GetNode", pb.GetNodeRequest(name="n7"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert "there are: n1, n2" in (unknown.value.details() or "")


def test_only_admins_change_nodes(stack: Stack, client: httpx.Client) -> None:
    for scope, reads in (("inference", 403), ("deploy", 200)):
        made = data(client.post("/keys", json={"name": "k", "scopes": [scope]}), 201)
        with stack.client(made["secret"]) as other:
            assert other.get("/nodes").status_code == other.get("/nodes/n1").status_code == reads
            for method, path in (
                ("POST", "/nodes/n1/drain"),
                ("POST", "/nodes/n1/cordon"),
                ("POST", "/nodes/n1/uncordon"),
                ("DELETE", "/nodes/n1"),
            ):
                assert other.request(method, path).status_code == 403
            assert other.patch("/nodes/n1", json={"labels": {}}).status_code == 403
    assert state(client, "n1") == "ready"

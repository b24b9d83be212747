"""Logs of a real system: each line about a request has its id, in whatever process, and none has a prompt or a key."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.homes import new_home
from tests.rpc import chat_request, client, start_rpc
from tests.stack import KEY, PATIENCE_S, Stack, eventually
from tests.upstreams.base import Fault, answer
from tests.upstreams.world import KEYS, PATIENT, Tables, World
from tests.upstreams.world import world as run

#: A word of each prompt.
SECRET = "pr0mpt-7d1e"
FAULTS = {"raise_word": "raise", "raise_at": 3, "crash_word": "crash", "crash_at": 3, "step_s": 0.005}


def tables(openai_url: str, anthropic_url: str) -> tuple[Tables, Tables]:
    oa = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    an = {"protocol": "anthropic", "base_url": anthropic_url, "api_key_env": "UP_ANTHROPIC_KEY", **PATIENT}
    remote = {"capabilities": ["chat"], "upstream": "gpt-4"}
    models = {
        "breaks": {"capabilities": ["chat"], "engine": "fake"},
        "oa-model": {**remote, "provider": "oa"},
        "an-model": {**remote, "provider": "an"},
    }
    return {"oa": oa, "an": an}, models


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with run(tmp_path_factory.mktemp("l"), tables, log_level="debug", log_format="json") as world:
        world.stack.put("breaks", FAULTS)
        start_rpc(world.stack)
        world.stack.wait_active(2)
        yield world


def ask(world: World, model: str, request_id: str, words: str = "") -> Any:
    """The answer to a chat whose prompt has a secret word."""
    body = {"messages": [{"role": "user", "content": f"{SECRET} {words}"}], "max_tokens": 20}
    with world.stack.client() as http:
        return http.post(f"/models/{model}/chat/completions", json=body, headers={"X-Request-Id": request_id})


def lines(stack: Stack) -> list[tuple[str, dict[str, Any]]]:
    """All whole lines of our processes, with the name of their log."""
    found = []
    for path in (stack.folder / "logs").glob("*.log"):
        texts = path.read_text().split("\n")[:-1] if path.stem != "redis" else []
        found += [(path.stem.split("-")[0], json.loads(text)) for text in texts]
    return found


def about(stack: Stack, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The lines that name a job, at all or in their text."""
    return [(name, entry) for name, entry in lines(stack) if job_id in json.dumps(entry)]


def test_the_web_process_begins_without_a_warning(world: World) -> None:
    warned = [name for name, entry in lines(world.stack) if entry["logger"] == "py.warnings"]
    assert "web" not in warned


@pytest.mark.parametrize(
    ("model", "words", "status", "said"),
    [
        ("fake", "", 200, {("web", "web.app"), ("model", "workers.journal.held_jobs")}),
        ("breaks", "raise", 500, {("web", "web.app"), ("model", "headrace.engine")}),
        ("breaks", "crash", 500, {("web", "web.app"), ("model", "gateway.jobs.recovery")}),
        ("oa-model", "", 200, {("web", "web.app"), ("provider", "workers.providers.call_driver")}),
    ],
)
def test_each_line_about_a_request_has_its_id(
    world: World, model: str, words: str, status: int, said: set[tuple[str, str]]
) -> None:
    world.calm()
    world.openai.faults.append(Fault("status", status=500))
    request_id = f"trace:{model}-{words}"
    response = ask(world, model, request_id, words)
    assert (response.status_code, response.headers["X-Request-Id"]) == (status, request_id)
    job_id = response.headers["X-Job-Id"]

    def told() -> bool:
        return said <= {(name, entry["logger"]) for name, entry in about(world.stack, job_id)}

    eventually(told, f"lines of {said}")
    for name, entry in about(world.stack, job_id):
        assert entry.get("request_id") == request_id, (name, entry)
        assert entry["job_id"] == job_id
        assert entry["model"] == model
        assert entry["key_id"]
    claims = {entry["claim_id"] for name, entry in about(world.stack, job_id) if name in ("model", "provider")}
    assert "" not in claims
    assert claims


def test_grpc_keeps_the_id_as_well(world: World) -> None:
    with client(world.stack) as rpc:
        answer = rpc.models.CreateChatCompletion.with_call(
            chat_request(SECRET), metadata=(*rpc.metadata, ("x-request-id", "trace:rpc")), timeout=60
        )
    job_id = dict(answer[1].initial_metadata())["x-job-id"]
    eventually(lambda: {"rpc", "model"} <= {name for name, _ in about(world.stack, job_id)}, "both have said something")
    assert {entry["request_id"] for _, entry in about(world.stack, job_id)} == {"trace:rpc"}


def test_a_deployment_has_the_id_of_its_request(world: World) -> None:
    with world.stack.client() as http:
        body = {"model_type": "fake", "replicas": 1}
        response = http.post("/models/local/deploy", json=body, headers={"X-Request-Id": "trace:deploy"})
        assert response.status_code == 200, response.text
        job_id = response.json()["data"]["deployment_id"]

    def told() -> set[str]:
        """Celery's own lines, which are for the level `debug`, know no request."""
        return {entry.get("request_id", "") for name, entry in about(world.stack, job_id) if name == "agent"} - {""}

    assert eventually(told, "the agent has said something") == {"trace:deploy"}


def test_logs_are_rotated_under_the_running_system_and_found_again(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    limits = {"HEADRACE_LOG_FILE_BYTES": "20000", "HEADRACE_LOG_FILES_KEPT": "2", "HEADRACE_LOG_LEVEL": "debug"}
    home.environ.update(limits)
    up, folder = home.start("up"), Path(home.data) / "logs"
    try:
        eventually(lambda: "headrace chat" in home.said, "it is up")
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3})
        url = f"http://127.0.0.1:{home.environ['HEADRACE_HTTP_PORT']}/models/fake/chat/completions"
        headers = {"Authorization": f"Bearer {(Path(home.data) / 'keys' / 'bootstrap').read_text().strip()}"}
        with httpx.Client(headers={**headers, "Content-Type": "application/json"}, timeout=PATIENCE_S) as http:

            def rotated(name: str) -> bool:
                for _ in range(20):
                    assert http.post(url, content=body, headers={"X-Request-Id": "busy"}).status_code == 200
                return any(folder.glob(f"{name}.log.2"))

            eventually(lambda: rotated("web") and rotated("model-*"), "web and model worker are rotated twice")
            assert http.post(url, content=body, headers={"X-Request-Id": "the-last-one"}).status_code == 200
        assert not list(folder.glob("*.log.3"))
        shown = home.command("logs", "--about", "the-last-one").stdout
        assert ": POST /models/fake/chat/completions: 200, after " in shown
        assert "request_id=the-last-one" in shown
        assert f"==> {folder}/web.log <==" in shown
        assert f"==> {folder}/model-fake." in shown
        raw = home.command("logs", "web", "-n", "200", "--json").stdout.splitlines()
        assert len(raw) == 200, "from older parts, too"
        assert all(json.loads(line)["message"] for line in raw)
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(PATIENCE_S)


def test_no_log_has_a_prompt_or_an_answer_or_a_key(world: World) -> None:
    world.calm()
    for model in ("oa-model", "an-model", "fake", "breaks"):
        ask(world, model, "trace:secrets")
    world.anthropic.faults.append(Fault("status", status=400))
    ask(world, "an-model", "trace:refused")
    with world.stack.client("hr-of-nobody-3f") as stranger:
        assert stranger.get("/models").status_code == 401
    text = "".join(path.read_text(errors="replace") for path in Path(world.stack.folder, "logs").iterdir())
    assert "trace:secrets" in text
    for secret in (SECRET, KEY, *KEYS.values(), "hr-of-nobody-3f", answer(3), " w1"):
        assert secret not in text, secret

"""Models whose files are odd, deployed and asked: what works, what is refused, and whose fault it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import transformers

from tests.deployments import deploy, ended
from tests.hub_server import HubServer
from tests.named_models import save_gguf
from tests.stack import Stack, eventually, running
from tests.tiny_models import demo_path, save_tiny_gguf, save_tiny_llama, write_demo

CATALOG = """
[models.{name}]
name = "{name}"
description = "A copy of the demo model"
version = "1.0"
capabilities = ["chat", "completion", "tool_use"]
engine = "openvino"
source = "{source}"
context_length = 1024
max_tokens = 256
"""
ASK = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 120}
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
#: What each model has in place of the demo model's fields. They need no weights that make sense, but `turns`.
TURNS = {"tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.eot_token_id": 2}
MODELS: dict[str, dict[str, Any]] = {
    "untemplated": {"tokenizer.chat_template": None},
    "endless": {"tokenizer.chat_template": ENDLESS},
    "typo": {"tokenizer.chat_template": "{% for m in messages %}{{ m.content }}"},
    "foreign": {"tokenizer.ggml.pre": "cuneiform"},
    "sentencepiece": {"tokenizer.ggml.model": "llama"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Has a GGUF file with a tokenizer that no engine runs."""
    hub, folder = HubServer(), tmp_path_factory.mktemp("hub")
    save_gguf(folder / "far.gguf", fields={"tokenizer.ggml.model": "llama"})
    hub.add("org/far", folder)
    with pytest.MonkeyPatch.context() as patch, hub.running():
        patch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Stack]:
    home, models = tmp_path_factory.mktemp("m"), tmp_path_factory.mktemp("models")
    sources: dict[str, Any] = {
        name: save_tiny_gguf(models / f"{name}.gguf", changes) for name, changes in MODELS.items()
    }
    sources["far"] = f"hub:org/far@{hub.repositories['org/far'].revision}/far.gguf"
    sources["turns"] = write_demo(models / "turns.gguf", TURNS)
    (models / "deep").mkdir()
    (models / "deep" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (models / "deep" / "config.json").write_text('{"a":' * 100_000)
    save_tiny_llama(models / "mute")
    (home / "headrace.toml").write_text(
        "".join(
            CATALOG.format(name=name, source=source) for name, source in [*sources.items(), ("deep", models / "deep")]
        )
        + CATALOG.format(name="mute", source=models / "mute").replace("openvino", "transformers")
    )
    with running(home, {"fake": {}}) as stack:
        eventually(stack.registry.devices, "the agent lives")
        yield stack


def serve(client: httpx.Client, model: str) -> dict[str, Any]:
    """Deploy a model, and wait until it serves."""
    data = ended(client, deploy(client, model, deployment_config={"max_batch_size": 2}), 150)
    assert data["status"] == "completed", data["error"]
    return data


def chat(client: httpx.Client, model: str, **body: Any) -> httpx.Response:
    return client.post(f"/models/{model}/chat/completions", json={**ASK, **body})


@pytest.fixture(scope="module")
def turns(stack: Stack) -> Iterator[str]:
    """A model that serves, and whose end of a turn is another token than its end of a text."""
    with stack.client() as client:
        serve(client, "turns")
        yield "turns"
        client.delete("/models/local/turns")


def test_an_answer_ends_at_the_end_of_a_turn(client: httpx.Client, turns: str) -> None:
    (choice,) = chat(client, turns).json()["data"]["choices"]
    assert choice["finish_reason"] == "stop"
    assert "Paris" in choice["message"]["content"]


def test_a_conversation_has_the_tokens_that_transformers_gives_it(client: httpx.Client, turns: str) -> None:
    path = demo_path()
    oracle = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    wanted = oracle.apply_chat_template(ASK["messages"], add_generation_prompt=True, return_dict=False)
    assert chat(client, turns, max_tokens=1).json()["data"]["usage"]["prompt_tokens"] == len(wanted)


def test_a_model_without_a_template_completes_and_refuses_chats(client: httpx.Client) -> None:
    serve(client, "untemplated")
    refused = chat(client, "untemplated")
    assert refused.status_code == 422
    assert "no chat template; use /completions" in refused.json()["message"]
    refused = client.post("/v1/chat/completions", json={**ASK, "model": "untemplated"})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert "no chat template; use /completions" in error["message"]
    asked = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    assert client.post("/models/untemplated/completions", json=asked).status_code == 200
    long = client.post("/models/untemplated/completions", json={**asked, "prompt": "x" * 3_000_000})
    assert (long.status_code, long.json()["data"]["reason"]) == (422, "context_length_exceeded")
    client.delete("/models/local/untemplated")


@pytest.mark.slow
def test_a_template_without_end_holds_nobody_up(stack: Stack, client: httpx.Client) -> None:
    data = serve(client, "endless")
    assert any("does not render a simple conversation" in line["message"] for line in data["logs"]), data["logs"]
    (replica,) = stack.registry.replicas("endless")
    answers: list[httpx.Response] = []

    def ask() -> None:
        with stack.client() as own:
            answers.append(chat(own, "endless"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(answer.status_code, answer.json()["data"]["reason"]) for answer in answers] == [
        (500, "template_failed")
    ] * 3
    asked = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    assert client.post("/models/endless/completions", json=asked).status_code == 200
    (after,) = stack.registry.replicas("endless")
    assert (after.pid, after.engine_pid) == (replica.pid, replica.engine_pid)
    client.delete("/models/local/endless")


@pytest.mark.parametrize(
    ("model", "reason", "says"),
    [
        ("typo", "BAD_TEMPLATE", "line 1"),
        ("foreign", "UNSUPPORTED_ARCHITECTURE", "cuneiform"),
        ("sentencepiece", "UNSUPPORTED_ARCHITECTURE", "'llama'"),
        ("far", "UNSUPPORTED_ARCHITECTURE", "'llama'"),
    ],
)
def test_what_can_not_work_fails_the_deployment_by_name(
    client: httpx.Client, hub: HubServer, model: str, reason: str, says: str
) -> None:
    data = ended(client, deploy(client, model), 150)
    assert (data["status"], data["error"]["reason"]) == ("failed", reason)
    assert says in data["error"]["message"]
    if reason == "UNSUPPORTED_ARCHITECTURE":
        assert data["current_stage"] == "preparation", "nothing is fetched or loaded for it"
    assert all(seen.range for seen in hub.requests("far.gguf")), "only its header"


def test_a_folder_without_a_tokenizer_fails_the_deployment_at_the_first_try(client: httpx.Client) -> None:
    data = ended(client, deploy(client, "mute"), 150)
    assert (data["status"], data["error"]["reason"]) == ("failed", "MISSING_FILE")
    assert "no tokenizer.json" in data["error"]["message"]
    assert not [line for line in data["logs"] if "try " in line["message"]]


def test_a_damaged_folder_never_fits_and_hides_no_other_model(client: httpx.Client) -> None:
    def planned(model: str) -> dict[str, Any]:
        body = {"model_type": model, "dry_run": True}
        return dict(client.post("/models/local/deploy", json=body).json()["data"])

    eventually(lambda: planned("turns").get("fits"), "the models are measured")
    found = planned("deep")
    assert (found["fits"], set(found["memory_plan"].values())) == (None, {None}), json.dumps(found)

"""The requests of the customer's document, sent literally, have answers with every field of its examples.

`tests/document/` holds the document's JSON blocks as they stand there; only model ids in paths are another. Like the
document, requests have no header but the key.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.answers import ChatChunkSchema, CompletionChunkSchema
from tests.curl import DOCUMENT, example, send
from tests.integration.conftest import CHAT_MODEL, DEPLOYED, ENCODER
from tests.shape import lacks
from tests.stack import Stack


def test_the_document_has_these_examples() -> None:
    """So that none is left unsent."""
    names = {path.name.split(".")[0] for path in DOCUMENT.glob("*.json")}
    assert names == {"models", "model", "completion", "chat", "embeddings", "local", "deploy", "deployment", "unload"}


@pytest.fixture(scope="module")
def asked(stack: Stack) -> dict[str, Any]:
    """The answers to the three requests to models. Statistics are measured, so they come first."""
    return {
        "completion": send(stack, "POST", f"/models/{CHAT_MODEL}/completions", "completion"),
        "chat": send(stack, "POST", f"/models/{CHAT_MODEL}/chat/completions", "chat"),
        "embeddings": send(stack, "POST", f"/models/{ENCODER}/embeddings", "embeddings"),
    }


def test_completion(asked: dict[str, Any]) -> None:
    answer = asked["completion"]
    assert lacks(example("completion"), answer) == []
    assert (answer["data"]["object"], answer["data"]["model"]) == ("text_completion", CHAT_MODEL)
    assert answer["data"]["id"].startswith("cmpl-")


def test_chat(asked: dict[str, Any]) -> None:
    answer = asked["chat"]
    assert lacks(example("chat"), answer) == []
    (choice,) = answer["data"]["choices"]
    assert (answer["data"]["object"], choice["message"]["role"]) == ("chat.completion", "assistant")
    assert choice["message"]["content"]
    assert answer["data"]["id"].startswith("chatcmpl-")


def test_embeddings(asked: dict[str, Any]) -> None:
    answer = asked["embeddings"]
    assert lacks(example("embeddings"), answer) == []
    assert [(entry["index"], len(entry["embedding"])) for entry in answer["data"]["data"]] == [(0, 384), (1, 384)]


def test_the_list_of_models(stack: Stack) -> None:
    """It has the document's four models, too, which are compared with their own examples."""
    answer, models = send(stack, "GET", "/models"), example("models")
    assert lacks(models, answer) == []
    listed = {model["id"]: model for model in answer["data"]["models"]}
    for promised in models["data"]["models"]:
        found = listed[promised["id"]]
        same = ("id", "name", "description", "version", "capabilities", "provider")
        assert {name: found[name] for name in same} == {name: promised[name] for name in same}
    assert {listed[name]["status"] for name in (CHAT_MODEL, ENCODER)} == {"active"}


@pytest.mark.usefixtures("asked")
def test_the_details_of_a_model(stack: Stack) -> None:
    answer = send(stack, "GET", f"/models/{CHAT_MODEL}")
    assert lacks(example("model"), answer) == []
    assert answer["data"]["stats"]["availability"] == 1.0


def test_the_details_of_the_documents_model(stack: Stack) -> None:
    """Without credentials it has no statistics, but all that the document says of it."""
    answer, promised = send(stack, "GET", "/models/gpt-4")["data"], example("model")["data"]
    same = ("id", "name", "description", "version", "capabilities", "provider", "pricing")
    assert {name: answer[name] for name in same} == {name: promised[name] for name in same}
    assert lacks(promised["parameters"], answer["parameters"]) == []
    for name, value in promised["parameters"].items():
        assert answer["parameters"][name] == value


@pytest.mark.usefixtures("asked")
def test_the_list_of_local_models(stack: Stack) -> None:
    data = send(stack, "GET", "/models/local")["data"]
    models = {model["id"]: model for model in data["models"]}
    assert set(models) == set(DEPLOYED)
    answered = {**data, "models": [models[CHAT_MODEL], models[ENCODER]]}  # others have no latency to tell yet
    assert lacks(example("local")["data"], answered) == []


@pytest.mark.parametrize(
    ("kind", "body", "schema"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, ChatChunkSchema),
        ("completions", {"prompt": "One, two,", "echo": True}, CompletionChunkSchema),
    ],
)
def test_chunks_have_the_fields_that_the_page_promises(
    stack: Stack, kind: str, body: dict[str, Any], schema: Any
) -> None:
    asked = {**body, "stream": True, "max_tokens": 4, "stream_options": {"include_usage": True}}
    with stack.client() as client:
        lines = client.post(f"/models/{CHAT_MODEL}/{kind}", json=asked).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [schema().validate(chunk) for chunk in chunks] == [{}] * len(chunks)
    seen = set().union(*chunks)
    assert seen == set(schema().fields) - {"rewound", "snapshot"}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    (reason,) = {choice["finish_reason"] for choice in choices} - {None}
    assert reason in ("length", "stop"), "it may end its turn itself"

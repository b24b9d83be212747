"""What OpenAI's clients send besides what we read, and histories from our own answers: over HTTP, as they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests import openai_types
from tests.integration.conftest import ENCODER, ODD, TOOLS
from tests.integration.test_openai import QUESTION, connect
from tests.integration.test_rest import fake_text
from tests.stack import Stack, eventually

#: OpenAI's fields that mean nothing to a local model, and those of other servers.
OPENAIS: dict[str, Any] = {
    **{"metadata": {"a": "b"}, "verbosity": "low", "service_tier": "flex", "prompt_cache_key": "k"},
    **{"prompt_cache_retention": "24h", "safety_identifier": "s", "web_search_options": {}, "audio": None},
    **{"prediction": {"type": "content", "content": "x"}, "modalities": ["text"]},
}
OTHERS: dict[str, Any] = {
    "chat_id": "c",
    "think": False,
    "num_ctx": 4096,
    "keep_alive": "5m",
    "provider": {"order": []},
}
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def sdk(stack: Stack) -> Iterator[openai.OpenAI]:
    with connect(stack) as client:
        yield client


def test_whatever_this_client_gets_is_judged(
    sdk: openai.OpenAI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge of `conftest.py` sees all: bodies and streams, of any HTTP library."""
    seen = []
    monkeypatch.setattr(openai_types, "flaws", lambda path, *_, is_stream, **__: seen.append((path, is_stream)) or [])
    list(sdk.completions.create(model="fake", prompt="a", max_tokens=1, stream=True))
    sdk.chat.completions.create(model="fake", messages=QUESTION, max_tokens=1)
    client.get("/v1/models")
    assert seen == [("/v1/completions", True), ("/v1/chat/completions", False), ("/v1/models", False)]


def ignored(response: httpx.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return set(response.headers["X-Ignored-Fields"].split(", "))


@pytest.mark.parametrize("stream", [False, True])
def test_fields_that_change_nothing_are_named_in_a_header(client: httpx.Client, stream: bool) -> None:
    options = {"stream_options": {"include_obfuscation": False, "include_usage": True}} if stream else {}
    turns = [{**QUESTION[0], "id": "m-1"}]
    body = {"model": "fake", "messages": turns, "max_tokens": 2, "stream": stream, **options, **OPENAIS, **OTHERS}
    expected = {*OPENAIS, *OTHERS, "messages.id"} - {"audio", "modalities"}
    named = ignored(client.post("/v1/chat/completions", json=body))
    assert named == expected | ({"stream_options.include_obfuscation"} if stream else set())


def test_other_paths_name_them_too(client: httpx.Client) -> None:
    text = {"model": "fake", "prompt": "a", "max_tokens": 1, "best_of": 1, "suffix": "b"}
    assert ignored(client.post("/v1/completions", json=text)) == {"suffix"}
    assert ignored(client.post("/v1/embeddings", json={"model": ENCODER, "input": "a", "\u00fc b": 1})) == {"??b"}
    plain = client.post("/v1/completions", json={"model": "fake", "prompt": "a", "max_tokens": 1, "logit_bias": None})
    assert "X-Ignored-Fields" not in plain.headers


def test_the_customers_paths_stay_strict(client: httpx.Client) -> None:
    answer = client.post("/models/fake/chat/completions", json={"messages": QUESTION, "metadata": {}})
    assert (answer.status_code, list(answer.json()["data"]["errors"])) == (422, ["metadata"])
    answer = client.post("/models/fake/completions", json={"prompt": "a", "seed": -1})
    assert (answer.status_code, list(answer.json()["data"]["errors"])) == (422, ["seed"])


@pytest.mark.parametrize("seed", [-1, 2**63 - 1, 2**32 - 1])
def test_any_seed_is_taken(sdk: openai.OpenAI, seed: int) -> None:
    made = [
        sdk.completions.create(model="fake", prompt="a", seed=seed, n=2, max_tokens=2, extra_headers={}).usage
        for _ in range(2)
    ]
    assert [usage and usage.completion_tokens for usage in made] == [4, 4]


def test_more_answers_than_a_batch_has_slots(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="fake", messages=QUESTION, n=128, max_tokens=2)
    assert [choice.index for choice in answer.choices] == list(range(128))
    assert [choice.message.content for choice in answer.choices] == [fake_text(answer.id, 2, i) for i in range(128)]
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.completions.create(model="fake", prompt=["a"] * 64, n=128, max_tokens=1)
    assert refused.value.param == "n"


def test_the_newer_limit_wins(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="fake", messages=QUESTION, max_tokens=9, max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_functions_are_taken_as_tools(sdk: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": TOOLS, "messages": QUESTION, "max_tokens": 1}
    plain = sdk.chat.completions.create(**asked).usage
    told = sdk.chat.completions.create(**asked, functions=[FUNCTION], function_call="auto").usage
    assert plain is not None
    assert told is not None
    assert told.prompt_tokens > plain.prompt_tokens, "the model reads them"
    with pytest.raises(openai.BadRequestError) as wrong:
        sdk.chat.completions.create(**asked, functions=[{"name": "no name"}])
    assert wrong.value.param == "functions[0].function.name"


def test_a_wrong_type_is_still_refused(client: httpx.Client) -> None:
    body = {"model": "fake", "messages": QUESTION, "temperature": "hot", "metadata": 1}
    answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")


def test_a_history_is_written_from_our_own_answers(sdk: openai.OpenAI) -> None:
    """As applications keep it: the whole of what the SDK knows of a message, nulls included."""
    first = sdk.chat.completions.create(model=ODD, messages=QUESTION, max_tokens=2)
    call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{not json"}}
    turns: list[Any] = [
        *QUESTION,
        first.choices[0].message.model_dump(),
        {"role": "user", "content": "go on", "name": None},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": None,
            "annotations": None,
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "7"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": []},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}, "tool_calls": None},
        {"role": "function", "name": "f", "content": "8"},
        {"role": "assistant", "content": "well", "reasoning_content": "hm", "function_call": None},
        {"role": "user", "content": "and then?", "id": "m-9"},
    ]
    answer = sdk.chat.completions.create(model=ODD, messages=turns, max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 20


def test_a_job_that_is_cancelled_elsewhere_ends_with_an_error(sdk: openai.OpenAI, client: httpx.Client) -> None:
    """OpenAI has no word for it: a strict client knows no finish reason `cancelled`."""
    stream = sdk.chat.completions.create(model="fake", messages=QUESTION, max_tokens=90_000, stream=True)
    chunks = iter(stream)
    job_id = next(chunks).id
    client.delete(f"/jobs/{job_id}").raise_for_status()
    with pytest.raises(openai.APIError, match="cancelled"):
        list(chunks)
    eventually(lambda: client.get(f"/jobs/{job_id}").json()["data"]["status"] == "cancelled", "it has ended")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_exact_resume_is_required_or_refused(client: httpx.Client, path: str) -> None:
    asked = {"model": "fake", "max_tokens": 2, "require_exact_resume": True}
    asked |= {"messages": QUESTION} if path.startswith("chat") else {"prompt": "a"}
    assert client.post(f"/v1/{path}", json={**asked, "seed": 1}).status_code == 200
    refused = client.post(f"/v1/{path}", json=asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "require_exact_resume")
    assert "Give a seed, or temperature 0." in refused.json()["error"]["message"]

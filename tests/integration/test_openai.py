"""The official `openai` client against a running stack: it must not notice that this is not OpenAI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from gateway.access.api_keys import Credentials
from tests.integration.conftest import ABSENT, DEPLOYED, ODD
from tests.integration.conftest import CHAT_MODEL as MODEL
from tests.integration.test_rest import fake_text
from tests.stack import KEY, Stack, eventually

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with connect(stack) as client:
        yield client


def connect(stack: Stack, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0, timeout=60)


def test_models_that_can_be_asked_are_listed(client: openai.OpenAI, stack: Stack) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert listed.keys() == {*DEPLOYED, ABSENT}
    assert (listed["fake"].object, listed["fake"].owned_by) == ("model", "local")
    assert client.models.retrieve("gpt-4").owned_by == "openai"
    assert client.models.retrieve(ODD).created > 1_700_000_000
    _, secret = Credentials(stack.redis).create("one", models=("fake",))
    with connect(stack, secret) as limited:
        assert [model.id for model in limited.models.list()] == ["fake"]


def test_a_chat_is_answered_by_a_real_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=40)
    assert (answer.choices[0].message.content or "").startswith("The capital of France is Paris")
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", MODEL, "stop")
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (37, 37 + answer.usage.completion_tokens)
    assert answer._request_id


def test_a_conversation_goes_on_with_the_clients_own_objects(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=ODD, messages=QUESTION, max_tokens=2)
    turns = [*QUESTION, first.choices[0].message, {"role": "user", "content": "and then?"}]
    second = client.chat.completions.create(model=ODD, messages=turns, max_tokens=2, metadata=None)
    assert second.usage is not None
    assert second.usage.prompt_tokens == 6 + 2 + 2


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="fake", messages=QUESTION, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    job_id = chunks[0].id
    assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {(job_id, "chat.completion.chunk", "fake")}
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == fake_text(job_id, 20)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_a_stream_that_the_client_leaves_is_cancelled(client: openai.OpenAI, stack: Stack) -> None:
    with client.chat.completions.create(model="fake", messages=QUESTION, max_tokens=90_000, stream=True) as stream:
        job_id = next(iter(stream)).id
    eventually(lambda: job_id not in stack.running(), "the job has ended")


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="fake", prompt=["a", "b"], n=2, max_tokens=3, echo=True)
    assert [c.text for c in whole.choices] == [
        prompt + fake_text(whole.id, 3, index) for index, prompt in enumerate(["a", "a", "b", "b"])
    ]
    assert whole.object == "text_completion"
    chunks = list(client.completions.create(model="fake", prompt="a", max_tokens=3, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == fake_text(chunks[0].id, 3)


def test_log_probabilities(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=4, logprobs=True)
    assert chat.choices[0].logprobs is not None
    entries = chat.choices[0].logprobs.content or []
    assert "".join(entry.token for entry in entries) == chat.choices[0].message.content
    text = client.completions.create(model=MODEL, prompt="One two three", temperature=0, max_tokens=4, logprobs=0)
    found = text.choices[0].logprobs
    assert found is not None
    assert found.tokens and found.text_offset and found.token_logprobs
    assert [text.choices[0].text[at:] for at in found.text_offset][-1] == found.tokens[-1]
    assert len(found.token_logprobs) == 4
    assert min(found.token_logprobs) < 0 >= max(found.token_logprobs)


def test_tools_are_taken(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(
        model=ODD, messages=QUESTION, tools=[tool], tool_choice="auto", max_tokens=1
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 6


def test_errors_are_those_of_openai(client: openai.OpenAI, stack: Stack) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-99", messages=QUESTION)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="fake", messages=QUESTION, temperature=3)
    assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "temperature")
    with pytest.raises(openai.BadRequestError, match="Missing"):
        client.post("/chat/completions", body={"messages": QUESTION}, cast_to=object)
    with pytest.raises(openai.AuthenticationError) as stranger, connect(stack, "wrong") as other:
        other.models.list()
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.InternalServerError) as unready:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert (unready.value.status_code, unready.value.code) == (503, "no_credentials")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [("GET", "/v1/nothing", b"", 404), ("GET", "/v1/completions", b"", 405), ("POST", "/v1/completions", b"{", 400)],
)
def test_every_error_below_v1_has_their_shape(stack: Stack, method: str, path: str, body: bytes, status: int) -> None:
    with stack.client() as client:
        response = client.request(method, path, content=body)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for(
    client: openai.OpenAI, stream: bool
) -> None:
    """LangChain and LiteLLM look into the text, and shorten the conversation. Also a stream has the real status."""
    words = r"This model's maximum context length is 8192 tokens, but the prompt is too long: it has \d+ "
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.completions.create(model=MODEL, prompt="word " * 9000, stream=stream)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    turns: list[Any] = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError, match="lower max_tokens to") as both:
        client.chat.completions.create(model=MODEL, messages=turns, max_tokens=8190, stream=stream)
    assert (both.value.code, both.value.param) == ("context_length_exceeded", "messages")


def test_a_background_job_of_this_face_is_polled_on_the_other(stack: Stack) -> None:
    with stack.client() as client:
        body = {"model": "fake", "prompt": "a", "max_tokens": 2}
        response = client.post("/v1/completions", json=body, headers={"Prefer": "respond-async"})
        assert response.status_code == 202
        job = eventually(lambda: ended(client, response.headers["Location"]), "the job ends")
    assert job["result"]["choices"][0]["text"] == fake_text(response.json()["job_id"], 2)


def ended(client: httpx.Client, location: str) -> Any:
    job = client.get(location).json()["data"]
    return job if job["status"] == "completed" else None

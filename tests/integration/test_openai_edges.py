"""The edges of OpenAI's face: statuses, headers, paths and keys as clients meet them, some of which nobody asks for."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from gateway.access.api_keys import Credentials
from gateway.context import Gateway
from tests.integration.conftest import CHAT_MODEL
from tests.integration.test_openai import QUESTION, connect
from tests.stack import KEY, Stack
from web.app import create_app

BODY: dict[str, Any] = {"model": "fake", "messages": QUESTION, "max_tokens": 2}
CHAT = "/v1/chat/completions"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}


def key_of(stack: Stack, name: str, **limits: Any) -> str:
    _, secret = Credentials(stack.redis).create(name, **limits)
    return secret


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize(("model", "code"), [("gpt-4", "no_credentials"), ("qwen3-7b", "model_not_ready")])
@pytest.mark.parametrize("stream", [False, True])
def test_nobody_is_told_to_retry_what_does_not_end_by_itself(
    stack: Stack, client: httpx.Client, model: str, code: str, stream: bool
) -> None:
    response = client.post(CHAT, json={**BODY, "model": model, "stream": stream})
    assert error_of(response, 503)["code"] == code
    assert response.headers["x-should-retry"] == "false"
    assert "Retry-After" not in response.headers


def test_the_sdk_does_not_retry_it(stack: Stack) -> None:
    seen: list[int] = []
    http = openai.DefaultHttpxClient(event_hooks={"response": [lambda response: seen.append(response.status_code)]})
    sdk = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=3, http_client=http)
    with sdk, pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(**{**BODY, "model": "gpt-4"})
    assert seen == [503]


def test_a_server_may_refuse_fields_that_nobody_knows(stack: Stack) -> None:
    """By its setting: OpenAI's own are taken as ever."""
    gateway = Gateway.connect(replace(stack.settings, openai_unknown_fields="refuse"))
    client, headers = create_app(gateway).test_client(), {"Authorization": f"Bearer {KEY}"}
    try:
        refused = client.post(CHAT, json={**BODY, "metadata": {}, "think": True, "num_ctx": 1}, headers=headers)
        assert refused.status_code == 400
        assert refused.get_json()["error"]["param"] == "num_ctx"
        assert "metadata" not in refused.get_json()["error"]["message"]
        taken = client.post(CHAT, json={**BODY, "metadata": {}}, headers={**headers, "Prefer": "respond-async"})
        assert (taken.status_code, taken.headers["X-Ignored-Fields"]) == (202, "metadata")
    finally:
        gateway.hub.close()
        gateway.redis.close()


def test_a_compressed_body_is_refused_and_a_byte_order_mark_is_not(client: httpx.Client) -> None:
    raw = json.dumps(BODY).encode()
    packed = client.post(CHAT, content=gzip.compress(raw), headers={"Content-Encoding": "gzip"})
    assert "uncompressed" in error_of(packed, 415)["message"]
    assert client.post(CHAT, content=b"\xef\xbb\xbf" + raw).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/fake/", "/v1/models//"])
def test_a_slash_at_the_end_changes_nothing(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, client.get(path.rstrip("/")).json())


def test_slashes_at_the_end_of_a_post(client: httpx.Client) -> None:
    assert client.post(f"{CHAT}/", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/chat/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/v1/chat/completions", "ends with /v1 once"),
        ("/nothing", "See /docs"),
    ],
)
def test_who_forgets_v1_is_told(client: httpx.Client, path: str, said: str) -> None:
    response = client.post(path, json=BODY)
    assert response.status_code == 404
    assert said in response.text


def test_the_root_says_what_this_is(stack: Stack) -> None:
    with stack.client(key="") as client:
        root = client.get("/").json()["data"]
        assert (root["name"], root["openai"]) == ("Headrace", "/v1")
        assert client.get(root["docs"], follow_redirects=True).status_code == 200
        assert client.head("/").status_code == 200


def test_limits_have_openais_words(stack: Stack) -> None:
    for limit, kind in (("requests_per_minute", "requests"), ("tokens_per_minute", "tokens")):
        room = 1 if kind == "requests" else 20
        with stack.client(key_of(stack, kind, **{limit: room})) as client:
            found = [client.post(CHAT, json=BODY) for _ in range(4)]
        error = error_of(found[-1], 429)
        assert (error["type"], error["code"]) == (kind, "rate_limit_exceeded")
        assert int(found[-1].headers["Retry-After"]) >= 1


def test_models_of_other_keys_are_not_there(stack: Stack) -> None:
    with connect(stack, key_of(stack, "bound", models=("fake",))) as sdk:
        assert sdk.models.retrieve("fake").id == "fake"
        for other in ("gpt-4", CHAT_MODEL, "never-was"):
            with pytest.raises(openai.NotFoundError) as caught:
                sdk.models.retrieve(other)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
            assert "Known models: fake." in caught.value.message


def test_a_key_may_come_in_the_header_of_anthropics_clients(stack: Stack) -> None:
    with stack.client(key="") as client:
        assert client.post(CHAT, json=BODY, headers={"x-api-key": KEY}).status_code == 200
        assert client.get("/models", headers={"x-api-key": KEY}).status_code == 200
        assert error_of(client.post(CHAT, json=BODY, headers={"x-api-key": "no"}), 401)["code"] == "invalid_api_key"
        assert error_of(client.post(CHAT, json=BODY), 401)["code"] == "no_api_key"
        both = {"x-api-key": KEY, "Authorization": "Bearer no"}
        assert client.get("/v1/models", headers=both).status_code == 401


@pytest.mark.parametrize("part", [IMAGE, AUDIO, FILE])
def test_local_models_refuse_what_they_can_not_read(client: httpx.Client, part: dict[str, Any]) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, part]}]
    error = error_of(client.post(CHAT, json={**BODY, "messages": turns}), 400)
    assert error["param"] == "messages.1.content"
    assert part["type"] in error["message"]
    own = client.post("/models/fake/chat/completions", json={"messages": turns})
    assert (own.status_code, list(own.json()["data"]["errors"])) == (422, ["messages.1.content"])


ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-a"}


def test_a_browser_may_ask_from_any_page(stack: Stack) -> None:
    """The preflight has no key; the answer, also a refusal, can be read with its headers."""
    with stack.client(key="") as client:
        allowed = client.options(CHAT, headers=PREFLIGHT)
        assert allowed.status_code == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
        assert allowed.headers["Access-Control-Allow-Headers"] == "authorization, x-a"
        refused = client.post(CHAT, json=BODY, headers=ORIGIN)
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "*")
    with stack.client() as client:
        answer = client.post(CHAT, json={**BODY, "stream": True}, headers=ORIGIN)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert {"X-Job-Id", "X-Ignored-Fields", "Retry-After", "x-should-retry"} <= set(exposed.split(", "))
        assert "Access-Control-Allow-Origin" not in client.get("/v1/models").headers

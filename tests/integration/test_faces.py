"""One table of cases over both faces: REST and gRPC give the same results, and the same errors."""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from gateway.access.api_keys import Credentials
from gateway.errors import HeadraceError
from tests.integration.conftest import CHAT_MODEL as MODEL
from tests.integration.conftest import ENCODER
from tests.rpc import Client, client, details
from tests.stack import KEY, Stack
from web.rpc.stubs import model_pb2 as pb

USER = {"role": "user", "content": "What is the capital of France?"}
HELLO = pb.Message(role="user", content=USER["content"])


def ask(stack: Stack, method: str, path: str, body: Any = None, key: str = KEY, **headers: str) -> httpx.Response:
    with stack.client(key) as rest:
        return rest.request(method, path, json=body, headers=headers)


@dataclass(frozen=True)
class Case:
    """The same request twice: (method, path, body), and (rpc, message)."""

    name: str
    rest: tuple[Any, ...]
    rpc: tuple[str, Message]
    key: str = KEY
    headers: dict[str, str] = field(default_factory=dict)


CHAT, COMPLETION = f"/models/{MODEL}/chat/completions", f"/models/{MODEL}/completions"
GREEDY = pb.Exact(temperature=0)


def chat(name: str, body: dict[str, Any], **fields: Any) -> Case:
    """A greedy chat with the real model."""
    message = pb.ChatCompletionRequest(**{"model_id": MODEL, "messages": [HELLO], "exact": GREEDY, **fields})
    body = {"messages": [USER], "temperature": 0, **body}
    return Case(name, ("POST", CHAT, body), ("CreateChatCompletion", message))


def completion(name: str, body: dict[str, Any], **fields: Any) -> Case:
    """A greedy completion with the real model."""
    message = pb.CompletionRequest(**{"model_id": MODEL, "exact": GREEDY, **fields})
    return Case(name, ("POST", COMPLETION, {"temperature": 0, **body}), ("CreateCompletion", message))


def embeddings(name: str, body: dict[str, Any], **fields: Any) -> Case:
    """Texts for the real encoder."""
    message = pb.EmbeddingsRequest(**{"model_id": ENCODER, **fields})
    return Case(name, ("POST", f"/models/{ENCODER}/embeddings", body), ("CreateEmbeddings", message))


IDS = [[101, 7592, 102], [7592, 2088]]

RESULTS = [
    Case("models", ("GET", "/models"), ("ListModels", pb.ListModelsRequest())),
    Case("model", ("GET", "/models/fake"), ("GetModel", pb.GetModelRequest(model_id="fake"))),
    Case("encoder", ("GET", f"/models/{ENCODER}"), ("GetModel", pb.GetModelRequest(model_id=ENCODER))),
    Case("local models", ("GET", "/models/local"), ("ListLocalModels", pb.ListLocalModelsRequest())),
    chat("chat", {"max_tokens": 9}, max_tokens=9),
    chat("max_completion_tokens", {"max_completion_tokens": 3}, max_completion_tokens=3),
    chat("logprobs", {"max_tokens": 3, "logprobs": True}, max_tokens=3, logprobs=True),
    chat("a stop string", {"max_tokens": 9, "stop": ["France"]}, max_tokens=9, stop=["France"]),
    chat("n", {"max_tokens": 3, "n": 2}, max_tokens=3, n=2),
    chat(
        "a seed",
        {"max_tokens": 6, "temperature": 1.5, "seed": 7, "top_p": 0.9},
        max_tokens=6,
        seed=7,
        top_p=0.9,
        temperature=1.5,
        exact=None,
    ),
    chat(
        "a penalty",
        {"max_tokens": 6, "frequency_penalty": 2.0, "presence_penalty": 1.0},
        max_tokens=6,
        frequency_penalty=2.0,
        presence_penalty=1.0,
    ),
    chat(
        "a system message",
        {"max_tokens": 6, "messages": [{"role": "system", "content": "Be brief."}, USER]},
        max_tokens=6,
        messages=[pb.Message(role="system", content="Be brief."), HELLO],
    ),
    completion("completion", {"prompt": "one two", "max_tokens": 4}, prompt="one two", max_tokens=4),
    completion("prompts", {"prompt": ["a", "b c"], "max_tokens": 2}, prompts=["a", "b c"], max_tokens=2),
    completion("echo", {"prompt": "a", "max_tokens": 2, "echo": True}, prompt="a", max_tokens=2, echo=True),
    completion("logprobs", {"prompt": "a", "max_tokens": 2, "logprobs": 0}, prompt="a", max_tokens=2, logprobs=0),
    embeddings(
        "embeddings", {"input": ["这是第一段文本", "这是第二段文本"]}, input=["这是第一段文本", "这是第二段文本"]
    ),
    embeddings("one embedding", {"input": "a text"}, input=["a text"]),
    embeddings(
        "base64",
        {"input": ["a text"], "encoding_format": "base64"},
        input=["a text"],
        encoding_format="base64",
    ),
    embeddings("token ids", {"input": IDS}, input_ids=[pb.TokenIds(ids=ids) for ids in IDS]),
    embeddings(
        "truncate",
        {"input": "word " * 300, "truncate": True, "dimensions": 384, "user": "u"},
        input=["word " * 300],
        truncate=True,
        dimensions=384,
        user="u",
    ),
]
#: What can't be equal in two answers.
VARIES = ("id", "created")


@pytest.mark.parametrize("case", RESULTS, ids=lambda case: case.name)
def test_both_faces_give_the_same_result(stack: Stack, rpc: Client, case: Case) -> None:
    answer = rpc.call(case.rpc[0], case.rpc[1])
    data = with_numbers(ask(stack, *case.rest).json()["data"])
    # Nothing may be left over: the message has a field for each of REST's.
    expected = ParseDict(data, type(answer)())
    for name in VARIES if "choices" in data else ():
        for message in (answer, expected):
            assert getattr(message, name)
            message.ClearField(name)
    for message in (answer, expected):
        _forget_measurements(message)
    assert answer == expected


def with_numbers(data: dict[str, Any]) -> dict[str, Any]:
    """A result of REST whose vectors are numbers, as they always are over gRPC."""
    for entry in data.get("data", ()):
        if isinstance(entry["embedding"], str):
            raw = base64.b64decode(entry["embedding"])
            entry["embedding"] = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return data


def _forget_measurements(message: Any) -> None:
    """Figures that may change between two requests."""
    if isinstance(message, pb.ChatCompletionResponse | pb.CompletionResponse):
        message.usage.ClearField("prompt_tokens_details")  # the second finds the prompt of the first in the cache
    for model in getattr(message, "models", []):
        if isinstance(model, pb.LocalModel):
            for name in ("tokens_per_second", "avg_latency_ms"):
                model.performance.ClearField(name)
            for replica in (model.deployment, *model.replicas):
                for name in (
                    "memory_usage",
                    "memory_bytes",
                    "sequences",
                    "kv_used_tokens",
                    "engine_steps",
                    "tokens_per_second",
                ):
                    replica.ClearField(name)


TALK = pb.ChatCompletionRequest(model_id="fake", messages=[HELLO], max_tokens=5)
FAKE = "/models/fake/chat/completions"


def bad(name: str, body: dict[str, Any], **fields: Any) -> Case:
    """A chat with the fake model that is refused."""
    message = pb.ChatCompletionRequest(**{"model_id": "fake", "messages": [HELLO], **fields})
    return Case(name, ("POST", FAKE, {"messages": [USER], **body}), ("CreateChatCompletion", message))


ERRORS = [
    bad("no messages", {"messages": []}, messages=[]),
    bad(
        "unknown role",
        {"messages": [{"role": "boss", "content": "x"}]},
        messages=[pb.Message(role="boss", content="x")],
    ),
    bad("max_tokens -1", {"max_tokens": -1}, max_tokens=-1),
    bad("max_tokens 0", {"max_tokens": 0}, exact=pb.Exact(max_tokens=0)),
    bad("temperature -1", {"temperature": -1.0}, temperature=-1.0),
    bad("temperature 3", {"temperature": 3.0}, temperature=3.0),
    bad("n 100", {"n": 100}, n=100),
    bad("1,000 stop strings", {"stop": ["x"] * 1000}, stop=["x"] * 1000),
    bad("two flaws", {"n": 100, "top_p": 2.0}, n=100, top_p=2.0),
    bad("a feature the engine lacks", {"presence_penalty": 1.0}, presence_penalty=1.0),
    bad("an exact resume without a seed", {"require_exact_resume": True}, require_exact_resume=True),
    Case(
        "an exact resume of what is not kept",
        ("POST", COMPLETION, {"prompt": "a", "seed": 1, "frequency_penalty": 1.0, "require_exact_resume": True}),
        (
            "CreateCompletion",
            pb.CompletionRequest(model_id=MODEL, prompt="a", seed=1, frequency_penalty=1.0, require_exact_resume=True),
        ),
    ),
    Case(
        "an exact resume in few bits",
        ("POST", COMPLETION, {"prompt": "a", "temperature": 0, "require_exact_resume": True}),
        (
            "CreateCompletion",
            pb.CompletionRequest(model_id=MODEL, prompt="a", exact=GREEDY, require_exact_resume=True),
        ),
    ),
    bad("tool_choice without tools", {"tool_choice": "auto"}, tool_choice="auto"),
    bad("a bad priority", {"priority": "vip"}, priority="vip"),
    embeddings("no input", {}),
    embeddings("an empty text", {"input": ["a", ""]}, input=["a", ""]),
    embeddings("no token ids", {"input": [[5], []]}, input_ids=[pb.TokenIds(ids=[5]), pb.TokenIds()]),
    embeddings("a negative token id", {"input": [[-1]]}, input_ids=[pb.TokenIds(ids=[-1])]),
    embeddings("a token id that the model lacks", {"input": [[30522]]}, input_ids=[pb.TokenIds(ids=[30522])]),
    embeddings("2,049 inputs", {"input": ["a"] * 2049}, input=["a"] * 2049),
    embeddings("another encoding", {"input": "a", "encoding_format": "int8"}, input=["a"], encoding_format="int8"),
    embeddings("vectors can't be shortened", {"input": "a", "dimensions": 100}, input=["a"], dimensions=100),
    embeddings("an input over the context", {"input": ["a", "word " * 300]}, input=["a", "word " * 300]),
    Case(
        "embeddings of a model without them",
        ("POST", "/models/fake/embeddings", {"input": "a"}),
        ("CreateEmbeddings", pb.EmbeddingsRequest(model_id="fake", input=["a"])),
    ),
    Case(
        "an empty prompt",
        ("POST", "/models/fake/completions", {"prompt": ""}),
        ("CreateCompletion", pb.CompletionRequest(model_id="fake")),
    ),
    Case(
        "prompt over the context",
        ("POST", COMPLETION, {"prompt": "word " * 9000}),
        ("CreateCompletion", pb.CompletionRequest(model_id=MODEL, prompt="word " * 9000)),
    ),
    Case(
        "unknown model",
        ("POST", "/models/gpt-99/chat/completions", {"messages": [USER]}),
        ("CreateChatCompletion", pb.ChatCompletionRequest(model_id="gpt-99", messages=[HELLO])),
    ),
    Case(
        "a model that is not deployed",
        ("POST", "/models/qwen3-7b/chat/completions", {"messages": [USER]}),
        ("CreateChatCompletion", pb.ChatCompletionRequest(model_id="qwen3-7b", messages=[HELLO])),
    ),
    Case(
        "a stream of an unknown model",
        ("POST", "/models/gpt-99/chat/completions", {"messages": [USER], "stream": True}),
        ("CreateChatCompletionStream", pb.ChatCompletionRequest(model_id="gpt-99", messages=[HELLO])),
    ),
    Case("details of an unknown model", ("GET", "/models/x"), ("GetModel", pb.GetModelRequest(model_id="x"))),
    Case("unknown job", ("GET", "/jobs/x"), ("GetJob", pb.GetJobRequest(job_id="x"))),
    Case("events of an unknown job", ("GET", "/jobs/x/events"), ("WatchJob", pb.WatchJobRequest(job_id="x"))),
    Case("cancel an unknown job", ("DELETE", "/jobs/x"), ("CancelJob", pb.CancelJobRequest(job_id="x"))),
    Case("jobs of a bad status", ("GET", "/jobs?status=x"), ("ListJobs", pb.ListJobsRequest(status="x"))),
    Case("jobs beyond the limit", ("GET", "/jobs?limit=999"), ("ListJobs", pb.ListJobsRequest(limit=999))),
    Case("no key", ("GET", "/models"), ("ListModels", pb.ListModelsRequest()), key=""),
    Case("an unknown key", ("GET", "/models"), ("ListModels", pb.ListModelsRequest()), key="hr-nobody"),
    Case(
        "another scheme",
        ("GET", "/models"),
        ("ListModels", pb.ListModelsRequest()),
        key="",
        headers={"authorization": "Basic abc"},
    ),
]


#: Each client that is refused is told a time of its own, and its wait is an estimate, which moves.
WHEN, TIME = re.compile(r"Try again in (\d+) s"), re.compile(r"(?<= in )(about )?\d+ s")


def compare_errors(stack: Stack, case: Case) -> grpc.RpcError:
    """The same request to both faces; returns gRPC's error."""
    response = ask(stack, *case.rest, key=case.key, **case.headers)
    told = response.json()
    with client(stack, case.key) as rpc, pytest.raises(grpc.RpcError) as caught:
        answer = rpc.call(case.rpc[0], case.rpc[1], metadata=tuple(case.headers.items()))
        list(answer)  # a stream fails only when it is read
    error = caught.value
    found = details(error)
    assert error.code().name in {kind.grpc_code for kind in errors() if kind.http_status == response.status_code}
    assert TIME.sub("", error.details()) == TIME.sub("", told["message"])
    assert found["ErrorInfo"].reason == told["data"]["reason"]
    violations = {v.field: v.description for v in found["BadRequest"].field_violations} if "BadRequest" in found else {}
    assert violations == {name: " ".join(texts) for name, texts in told["data"].get("errors", {}).items()}
    waits = [str(detail.retry_delay.seconds) for name, detail in found.items() if name == "RetryInfo"]
    rest_waits = [response.headers["Retry-After"]] if "Retry-After" in response.headers else []
    if named := WHEN.findall(told["message"]):
        assert (named, WHEN.findall(error.details())) == (rest_waits, waits)
    else:
        assert waits == rest_waits
    assert found["RequestInfo"].request_id == dict(error.initial_metadata())["x-request-id"]
    return error


def errors(kind: type[HeadraceError] = HeadraceError) -> list[type[HeadraceError]]:
    """All classes of the error tree."""
    return [kind, *(inner for child in kind.__subclasses__() for inner in errors(child))]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_both_faces_give_the_same_error(stack: Stack, case: Case) -> None:
    compare_errors(stack, case)


def test_a_full_queue_says_when_to_come_back_on_both_faces(stack: Stack, rpc: Client) -> None:
    """Each client is told a time of its own."""
    with stack.full_line():
        response = ask(stack, "POST", FAKE, {"messages": [USER]})
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call("CreateChatCompletion", TALK, timeout=None)  # a deadline would count as a timeout
    error, told = caught.value, response.json()
    found = details(error)
    assert (response.status_code, error.code()) == (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert found["ErrorInfo"].reason == told["data"]["reason"] == "queue_full"
    first, second = (re.sub(r"\d+ s\b", "N s", text) for text in (told["message"], error.details()))
    kept = ", with room kept for 1 told to come back"
    assert (kept in second, first) == (True, second.replace(kept, ""))
    assert 1 <= int(response.headers["Retry-After"]) <= found["RetryInfo"].retry_delay.seconds <= 60


def test_a_limited_key_is_refused_by_both_faces_with_what_is_left(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("small", requests_per_minute=1)
    with client(stack, secret) as rpc:
        stream = rpc.call("CreateChatCompletionStream", TALK)
        assert dict(stream.initial_metadata())["x-ratelimit-remaining-requests"] == "0"
        list(stream)
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call("CreateChatCompletion", TALK)
    assert dict(caught.value.initial_metadata())["x-ratelimit-limit-requests"] == "1"
    found = details(caught.value)
    response = ask(stack, "POST", FAKE, {"messages": [USER]}, key=secret)
    assert (response.status_code, caught.value.code()) == (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert found["ErrorInfo"].reason == response.json()["data"]["reason"] == "rate_limit_requests"
    assert abs(found["RetryInfo"].retry_delay.seconds - int(response.headers["Retry-After"])) <= 2


def test_a_key_without_the_scope_is_refused_by_both_faces(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("deployer", ["deploy"])
    compare_errors(
        stack, Case("scope", ("POST", FAKE, {"messages": [USER]}), ("CreateChatCompletion", TALK), key=secret)
    )


def test_a_request_that_is_too_large_is_refused(stack: Stack, rpc: Client) -> None:
    most = stack.settings.max_body_bytes
    prompt = "x" * (most + 1)
    assert ask(stack, "POST", COMPLETION, {"prompt": prompt}).status_code == 413
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call("CreateCompletion", pb.CompletionRequest(model_id=MODEL, prompt=prompt))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(most) in caught.value.details()


def test_bytes_that_are_no_message_are_refused(stack: Stack, rpc: Client) -> None:
    send = rpc.channel.unary_unary("/model.ModelService/CreateChatCompletion")
    with pytest.raises(grpc.RpcError) as caught:
        send(b"\xff\xff\xff", metadata=rpc.metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a valid model.ChatCompletionRequest message" in caught.value.details()
    assert details(caught.value)["ErrorInfo"].reason == "invalid_message"


def test_a_very_long_error_still_reaches_its_client(stack: Stack, rpc: Client) -> None:
    roles = [pb.Message(role="角色" * 20, content="x")] * 500
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call("CreateChatCompletion", pb.ChatCompletionRequest(model_id="fake", messages=roles))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["BadRequest"].field_violations[0].field == "messages[0].role"


JOBS = {
    "chat": pb.CreateJobRequest(chat=pb.ChatCompletionRequest(model_id="fake", messages=[HELLO], max_tokens=4)),
    "completion": pb.CreateJobRequest(completion=pb.CompletionRequest(model_id="fake", prompt="a b", max_tokens=4)),
    "embedding": pb.CreateJobRequest(embedding=pb.EmbeddingsRequest(model_id=ENCODER, input=["a", "b c"])),
}


@pytest.mark.parametrize("kind", JOBS)
def test_a_background_job_is_the_same_from_both_sides(stack: Stack, rpc: Client, kind: str) -> None:
    made = rpc.call("CreateJob", JOBS[kind])
    assert (made.status, made.kind, made.priority) == ("pending", kind, "background")
    list(rpc.call("WatchJob", pb.WatchJobRequest(job_id=made.job_id)))
    job = rpc.call("GetJob", pb.GetJobRequest(job_id=made.job_id))
    assert job.status == "completed"
    data = ask(stack, "GET", f"/jobs/{made.job_id}").json()["data"]
    result = data.pop("result")
    assert job == ParseDict({**data, kind: result}, pb.Job())
    assert job.usage.total_tokens > 0
    listed = rpc.call("ListJobs", pb.ListJobsRequest(limit=1)).jobs
    assert [entry.job_id for entry in listed] == [made.job_id]
    assert rpc.call("CancelJob", pb.CancelJobRequest(job_id=made.job_id)).status == "completed"


def test_both_faces_tell_of_the_same_progress(stack: Stack, rpc: Client) -> None:
    """An embedding job that REST has started."""
    body = {"input": ["a", "b c", "d"], "encoding_format": "base64"}
    headers = {"Prefer": "respond-async"}
    job_id = ask(stack, "POST", f"/models/{ENCODER}/embeddings", body, **headers).json()["data"]["job_id"]
    seen = [
        event.embedding
        for event in rpc.call("WatchJob", pb.WatchJobRequest(job_id=job_id))
        if event.HasField("embedding")
    ]
    told = [line[6:] for line in ask(stack, "GET", f"/jobs/{job_id}/events").text.splitlines() if line[:7] == "data: {"]
    assert sorted(index for event in seen for index in event.done) == [0, 1, 2]
    for event in seen:
        assert event.seq
        event.ClearField("seq")
        event.ClearField("claim")
    assert seen == [ParseDict(json.loads(line), pb.EmbeddingsProgress()) for line in told]
    result = with_numbers(ask(stack, "GET", f"/jobs/{job_id}").json()["data"]["result"])
    assert rpc.call("GetJob", pb.GetJobRequest(job_id=job_id)).embedding == ParseDict(result, pb.EmbeddingsResponse())


@pytest.mark.parametrize(
    ("method", "both", "place"),
    [
        (
            "CreateEmbeddings",
            pb.EmbeddingsRequest(model_id=ENCODER, input=["a"], input_ids=[pb.TokenIds(ids=[5])]),
            "input_ids",
        ),
        ("CreateCompletion", pb.CompletionRequest(model_id="fake", prompt="a", prompts=["b"]), "prompts"),
        (
            "CreateChatCompletion",
            pb.ChatCompletionRequest(model_id="fake", tool_choice="auto", tool_choice_function="f"),
            "tool_choice_function",
        ),
    ],
)
def test_two_forms_of_one_field_at_once_are_refused(rpc: Client, method: str, both: Message, place: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call(method, both)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["BadRequest"].field_violations[0].field == place


def test_an_idempotency_key_leads_both_faces_to_one_job(stack: Stack, rpc: Client) -> None:
    body = {"messages": [USER], "max_tokens": 3}
    first = ask(stack, "POST", FAKE, body, **{"Idempotency-Key": "once"}).json()["data"]
    request = pb.ChatCompletionRequest(model_id="fake", messages=[HELLO], max_tokens=3)
    second, about = rpc.models.CreateChatCompletion.with_call(
        request, metadata=(*rpc.metadata, ("idempotency-key", "once"))
    )
    assert second.id == first["id"]
    assert dict(about.initial_metadata())["idempotent-replayed"] == "true"


def test_a_request_id_is_taken_from_the_metadata_or_made(rpc: Client) -> None:
    def told(*metadata: tuple[str, str]) -> str:
        _, about = rpc.models.ListModels.with_call(pb.ListModelsRequest(), metadata=(*rpc.metadata, *metadata))
        return str(dict(about.initial_metadata())["x-request-id"])

    assert told(("x-request-id", "mine:1")) == "mine:1"
    assert len(told()) == 32
    assert len(told(("x-request-id", "not allowed!"))) == 32

"""Every field of a request is taken, and every field of a job and of a stream is given, over REST and over gRPC.

The lists of fields are the schemas' and messages' own, so that a new one must be added here.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict

from gateway.jobs.compaction import snapshot
from schemas import answers, chat, embeddings, inference, jobs
from schemas.lenient import openai
from tests.integration.conftest import ABSENT, ENCODER, TOOLS
from tests.integration.conftest import CHAT_MODEL as MODEL
from tests.rpc import Client
from tests.stack import Stack, eventually, stopped
from web.rpc.stubs import model_pb2 as pb

#: Sampled, so that every field has a meaning.
COMMON: dict[str, Any] = {
    **{"max_tokens": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "n": 2, "seed": 7, "stop": ["\n"]},
    **{"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "stream": False, "min_p": 0.05},
    **{"stream_options": {"include_usage": True}},
}
JOB: dict[str, Any] = {"priority": "background", "detach": True, "store": False, "user": "someone", "timeout": 600}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How is the weather?", "name": "ada"},
]
ANSWERED = [
    *MESSAGES,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
]
FUNCTION = {"name": "weather", "description": "Tells it", "parameters": {"type": "object"}, "strict": False}
CHAT = {**COMMON, **JOB, "messages": MESSAGES, "max_completion_tokens": 4, "logprobs": True, "top_logprobs": 0}
CALLING: dict[str, Any] = {
    "messages": ANSWERED,
    "max_tokens": 3,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
#: What an answer must look like is asked for in one way at a time.
FORMS: list[dict[str, Any]] = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "any", "schema": {}, "strict": True}}},
    {"structured_outputs": {"json_object": True}},
    {"guided_json": {"type": "object"}, "guided_decoding_backend": "auto", "guided_whitespace_pattern": " ?"},
    {"guided_choice": ["a", "b"]},
    {"guided_regex": "[a-z]{1,3}"},
    {"guided_grammar": 'root ::= "a" | "b"'},
]
THINKING: dict[str, Any] = {
    "reasoning_effort": "low",
    "enable_thinking": False,
    "thinking": {"type": "disabled"},
    "chat_template_kwargs": {"custom": 1},
}
#: What not every engine can, nor keeps over a resume.
PUSHED: dict[str, Any] = {"max_tokens": 2, "logit_bias": {"7": 100}, "seed": 7, "require_exact_resume": True}
COMPLETION = {**COMMON, **JOB, "prompt": "One, two,", "echo": False, "logprobs": 0}
EMBEDDING = {**JOB, "input": ["a"], "encoding_format": "float", "dimensions": 384, "truncate": True}


@pytest.fixture
def rest(client: httpx.Client) -> httpx.Client:
    return client


FORMED = {
    "chat/completions": [(MODEL, {"messages": MESSAGES, "max_tokens": 4, **more}) for more in (*FORMS, THINKING)],
    "completions": [(MODEL, {"prompt": "One, two,", "max_tokens": 4, **form}) for form in FORMS],
}
#: By kind: bodies with the model that takes them, the schema, and OpenAI's.
REQUESTS: dict[str, tuple[list[tuple[str, dict[str, Any]]], Any, Any]] = {
    "chat/completions": (
        [(MODEL, CHAT), (TOOLS, CALLING), ("fake", {"messages": MESSAGES, **PUSHED}), *FORMED["chat/completions"]],
        inference.ChatRequestSchema,
        openai.OpenAIChatSchema,
    ),
    "completions": (
        [(MODEL, COMPLETION), ("fake", {"prompt": [1, 2], **PUSHED}), *FORMED["completions"]],
        inference.CompletionRequestSchema,
        openai.OpenAICompletionSchema,
    ),
    "embeddings": ([(ENCODER, EMBEDDING)], embeddings.EmbeddingRequestSchema, openai.OpenAIEmbeddingSchema),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_field_of_a_request_is_taken(rest: httpx.Client, kind: str) -> None:
    bodies, schema, _ = REQUESTS[kind]
    assert set().union(*(body for _, body in bodies)) == set(schema().fields)
    for model, body in bodies:
        answer = rest.post(f"/models/{model}/{kind}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["model"] == model


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_field_of_a_request_is_taken_below_v1(rest: httpx.Client, kind: str) -> None:
    bodies, _, schema = REQUESTS[kind]
    asked = [{**body, "model": model} for model, body in bodies]
    assert set().union(*asked) == set(schema().fields)
    for body in asked:
        answer = rest.post(f"/v1/{kind}", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == body["model"]


def test_every_field_of_a_turn_and_a_tool_is_taken(rest: httpx.Client) -> None:
    turns = [set(turn) for turn in ANSWERED]
    assert set().union(*turns) == set(chat.MessageSchema().fields)
    assert set(CALL) == set(chat.ToolCallSchema().fields)
    assert set(CALL["function"]) == set(chat.CalledFunctionSchema().fields)
    assert set(CALLING["tools"][0]) == set(chat.ToolSchema().fields)
    assert set(FUNCTION) == set(chat.FunctionSchema().fields)
    answer = rest.post(f"/models/{TOOLS}/chat/completions", json=CALLING)
    # The fake tokenizer counts words: those of the turns, of the call as JSON, and of the tool as JSON.
    assert answer.json()["data"]["usage"]["prompt_tokens"] > 2 + 4 + 1


#: By method: messages that have all fields together. `stream` has no effect there.
WHOLE, EXACT = {"stream": True, "model_id": MODEL}, {"temperature": 0.7, "max_tokens": 4}
FORMED_TEXT: dict[str, Any] = {"model_id": MODEL, "max_tokens": 4, "prompt": "a"}
FORMED_CHAT: dict[str, Any] = {"model_id": MODEL, "max_tokens": 4, "messages": MESSAGES}
CALLS: dict[str, list[Any]] = {
    "CreateChatCompletion": [
        ParseDict({**CHAT, **WHOLE, "exact": EXACT}, pb.ChatCompletionRequest()),
        ParseDict({**CALLING, "model_id": TOOLS}, pb.ChatCompletionRequest()),
        ParseDict({"messages": MESSAGES, **PUSHED, "model_id": "fake"}, pb.ChatCompletionRequest()),
        *(ParseDict({**FORMED_CHAT, **more}, pb.ChatCompletionRequest()) for more in (*FORMS[:2], THINKING)),
    ],
    "CreateCompletion": [
        ParseDict({**COMPLETION, **WHOLE, "exact": EXACT}, pb.CompletionRequest()),
        pb.CompletionRequest(model_id="fake", prompts=["a", "b"], max_tokens=2),
        ParseDict({**PUSHED, "model_id": "fake", "prompt_ids": [{"ids": [1, 2]}]}, pb.CompletionRequest()),
        *(ParseDict({**FORMED_TEXT, **more}, pb.CompletionRequest()) for more in FORMS[:2]),
    ],
    "CreateEmbeddings": [
        ParseDict({**EMBEDDING, "model_id": ENCODER}, pb.EmbeddingsRequest()),
        pb.EmbeddingsRequest(model_id=ENCODER, input_ids=[pb.TokenIds(ids=[5, 6])]),
    ],
}


@pytest.mark.parametrize("method", CALLS)
def test_every_field_of_a_message_is_taken(rpc: Client, method: str) -> None:
    messages = CALLS[method]
    given = {field.name for message in messages for field, _ in message.ListFields()}
    assert given == set(messages[0].DESCRIPTOR.fields_by_name) - {"tool_choice_function", "tool_choice_object"}
    for message in messages:
        assert rpc.call(method, message).model == message.model_id


def test_a_tool_that_must_be_called_is_taken_by_its_name(rpc: Client) -> None:
    request = ParseDict({**CALLING, "model_id": TOOLS, "max_tokens": 500}, pb.ChatCompletionRequest())
    request.ClearField("tool_choice")
    request.tool_choice_function = "weather"
    (choice,) = rpc.call("CreateChatCompletion", request).choices
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls] == ["weather"]


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_fallback_is_named_over_grpc(rpc: Client, kind: str) -> None:
    calls = {
        "chat": ("CreateChatCompletion", pb.ChatCompletionRequest(messages=[pb.Message(role="user", content="a")])),
        "completion": ("CreateCompletion", pb.CompletionRequest(prompt="a")),
    }
    method, request = calls[kind]
    request.model_id, request.max_tokens = ABSENT, 2  # type: ignore[attr-defined]
    answer = rpc.call(method, request)
    assert (answer.model, list(answer.served_by)) == ("fake", ["fake"])


def test_a_completion_is_streamed_over_grpc(rpc: Client, rest: httpx.Client) -> None:
    chunks = list(rpc.call("CreateCompletionStream", pb.CompletionRequest(model_id="fake", prompt="a", max_tokens=9)))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    job = ended(rest, chunks[0].id)
    assert text == job["result"]["choices"][0]["text"]
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("path", "body", "schema", "field"),
    [
        ("chat/completions", {"messages": MESSAGES, "logprobs": True}, answers.ChatChunkSchema, "chat"),
        ("completions", {"prompt": "One, two,", "logprobs": 0}, answers.CompletionChunkSchema, "completion"),
    ],
)
def test_streams_have_the_same_chunks_over_both_faces(
    rest: httpx.Client, rpc: Client, path: str, body: dict[str, Any], schema: Any, field: str
) -> None:
    """With log probabilities and the usage, and the same cursors."""
    asked = {**body, "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    response = rest.post(f"/models/{MODEL}/{path}", json=asked)
    lines = response.text.splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [schema().validate(chunk) for chunk in told] == [{}] * len(told)
    assert any("logprobs" in choice for chunk in told for choice in chunk["choices"])
    assert 0 < told[-1]["usage"]["completion_tokens"] <= 5, "it may end its turn itself"
    watched = [getattr(e, field) for e in rpc.call("WatchJob", pb.WatchJobRequest(job_id=response.headers["X-Job-Id"]))]
    assert [f"id: {chunk.seq}-{chunk.claim}" for chunk in watched] == [
        line for line in lines if line.startswith("id: ")
    ]
    for chunk in watched:
        chunk.ClearField("seq")
        chunk.ClearField("claim")
    assert watched == [ParseDict(chunk, type(watched[0])()) for chunk in told]


def ended(rest: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job, when it has ended."""
    states = ("completed", "failed", "cancelled")
    return dict(
        eventually(lambda: (j := rest.get(f"/jobs/{job_id}").json()["data"])["status"] in states and j, "it ends")
    )


def test_every_field_of_a_job_is_given(rest: httpx.Client, rpc: Client) -> None:
    """One that is done has all but the error, one that failed all but the result."""
    background = {"Prefer": "respond-async"}
    body = {"prompt": "a", "max_tokens": 2}
    accepted = rest.post("/models/fake/completions", json=body, headers=background).json()["data"]
    assert set(accepted) == set(jobs.JobAcceptedSchema().fields)
    done = ended(rest, accepted["job_id"])
    assert set(done) == set(jobs.JobSchema().fields)
    assert {name for name, value in done.items() if value is None} == {"error", "eta_s", "loading"}
    assert (done["kind"], done["model"], done["attempts"], done["position"]) == ("completion", "fake", 1, 0)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert rest.get(done["events_url"]).status_code == 200
    too_long = {"prompt": "word " * 9000}
    job_id = rest.post(f"/models/{MODEL}/completions", json=too_long, headers=background).json()["data"]["job_id"]
    failed = ended(rest, job_id)
    assert failed["error"]["reason"] == "context_length_exceeded"
    message = rpc.call("GetJob", pb.GetJobRequest(job_id=job_id))
    assert (message.error.reason, message.error.message) == (failed["error"]["reason"], failed["error"]["message"])
    both = [rpc.call("GetJob", pb.GetJobRequest(job_id=i)) for i in (job_id, accepted["job_id"])]
    seen = {field.name for job in both for field, _ in job.ListFields()} | {"position", "eta_s", "loading"}
    assert seen == set(pb.Job.DESCRIPTOR.fields_by_name) - {"chat", "embedding", "deployment", "addition"}
    cancelled = rest.delete(f"/jobs/{job_id}").json()["data"]
    assert cancelled == {"job_id": job_id, "status": "failed"}
    assert set(cancelled) == set(jobs.CancelledJobSchema().fields)


def test_a_watcher_of_a_job_that_waits_is_told_its_position(stack: Stack, rest: httpx.Client, rpc: Client) -> None:
    """Nothing takes jobs of a model whose worker is stopped."""
    with stopped(stack.replica("fake").pid):
        made = rpc.call("CreateJob", pb.CreateJobRequest(completion=pb.CompletionRequest(model_id="fake", prompt="a")))
        events = rpc.call("WatchJob", pb.WatchJobRequest(job_id=made.job_id))
        assert next(event for event in events if event.HasField("waiting")).waiting.position == 1
        assert made.position == 1
        rpc.call("CancelJob", pb.CancelJobRequest(job_id=made.job_id))


@pytest.mark.parametrize(
    ("path", "body", "schema", "kind"),
    [
        ("/models/fake/chat/completions", {"messages": MESSAGES, "max_tokens": 6}, answers.ChatChunkSchema, "chat"),
        ("/models/fake/completions", {"prompt": "a", "max_tokens": 6}, answers.CompletionChunkSchema, "completion"),
        (f"/models/{ENCODER}/embeddings", {"input": ["a", "b"]}, answers.EmbeddingProgressSchema, "embedding"),
    ],
)
def test_a_cursor_that_the_journal_lacks_is_told_what_stands(
    rest: httpx.Client, rpc: Client, path: str, body: dict[str, Any], schema: Any, kind: str
) -> None:
    """As after a Redis that lost its last moments: `rewound` has the text that counts."""
    job_id = rest.post(path, json=body, headers={"Prefer": "respond-async"}).json()["data"]["job_id"]
    ended(rest, job_id)
    lines = rest.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "2-other"}).text.splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [schema().validate(chunk) for chunk in told] == [{}] * len(told)
    events = rpc.call("WatchJob", pb.WatchJobRequest(job_id=job_id, from_seq=2, from_claim="other"))
    (message,) = (found for event in events if (found := getattr(event, kind)).HasField("rewound"))
    assert message.rewound.seq == message.seq == told[0]["rewound"]["seq"]
    assert dict(message.rewound.text) == told[0]["rewound"].get("text", {})
    assert message.claim


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/models/fake/chat/completions", {"messages": MESSAGES, "max_tokens": 6, "n": 2}, "chat"),
        ("/models/fake/completions", {"prompt": "a", "max_tokens": 6, "n": 2}, "completion"),
    ],
)
def test_a_cursor_in_a_compacted_journal_gets_the_whole_text(
    stack: Stack, rest: httpx.Client, rpc: Client, path: str, body: dict[str, Any], kind: str
) -> None:
    """Nothing was lost, so it is another word than `rewound`; the reason why it ended is not lost either."""
    job_id = rest.post(path, json=body, headers={"Prefer": "respond-async"}).json()["data"]["job_id"]
    choices = ended(rest, job_id)["result"]["choices"]
    texts = {str(i): c["message"]["content"] if kind == "chat" else c["text"] for i, c in enumerate(choices)}
    claim = stack.journal(job_id)[1].claim
    assert stack.store.journals.replace(job_id, snapshot(stack.journal(job_id)))
    lines = rest.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": f"2-{claim}"}).text.splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    schema = answers.ChatChunkSchema() if kind == "chat" else answers.CompletionChunkSchema()
    assert [schema.validate(chunk) for chunk in told] == [{}] * len(told)
    assert told[0]["snapshot"]["text"] == texts
    assert [choice["finish_reason"] for chunk in told for choice in chunk["choices"]] == ["length"] * 2
    watched = rpc.call("WatchJob", pb.WatchJobRequest(job_id=job_id, from_seq=2, from_claim=claim))
    messages = [getattr(event, kind) for event in watched if event.HasField(kind)]
    assert (dict(messages[0].snapshot.text), messages[0].snapshot.seq) == (texts, messages[0].seq)
    assert [message.choices[0].finish_reason for message in messages[1:3]] == ["length"] * 2

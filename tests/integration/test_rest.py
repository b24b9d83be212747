"""The HTTP face over a running stack, with the fake engine and with the real small model."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.store import keys
from tests.integration.conftest import CHAT_MODEL as MODEL
from tests.stack import KEY, Stack, chat, eventually
from workers.engines.fake import fake_token

CHAT = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


def fake_text(job_id: str, count: int, choice: int = 0) -> str:
    return "".join(f" w{fake_token(f'{job_id}/{choice}', i)}" for i in range(count))


def test_models_are_listed_in_the_documents_shape(client: httpx.Client) -> None:
    body = client.get("/models").json()
    assert (body["code"], body["message"]) == (200, "success")
    listed = {model["id"]: model for model in body["data"]["models"]}
    assert listed[MODEL]["status"] == "active"
    assert listed[MODEL]["deployment"]["quantization"] == "q4_1"
    detail = client.get(f"/models/{MODEL}").json()["data"]
    assert detail["parameters"]["temperature"] == {"min": 0.0, "max": 2.0, "default": 1.0}
    assert set(detail["pricing"]) == {"input_per_1k_tokens", "output_per_1k_tokens", "currency"}
    assert set(detail["stats"]) >= {"average_latency_ms", "availability"}


def test_a_real_model_answers_a_chat(client: httpx.Client) -> None:
    response = client.post(f"/models/{MODEL}/chat/completions", json={**CHAT, "temperature": 0, "max_tokens": 40})
    body = response.json()
    assert body["request_id"] == response.headers["X-Request-Id"]
    data = body["data"]
    assert data["id"] == response.headers["X-Job-Id"]
    message = data["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert message["content"].startswith("The capital of France is Paris"), "and what else depends on the processor"
    assert data["choices"][0]["finish_reason"] == "stop"
    usage = data["usage"]
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (37, 37 + usage["completion_tokens"])
    assert 8 <= usage["completion_tokens"] <= 40


def test_a_stream_says_the_same_as_the_whole_answer(client: httpx.Client, stack: Stack) -> None:
    whole = client.post(f"/models/{MODEL}/chat/completions", json={**CHAT, "temperature": 0, "max_tokens": 40}).json()
    stream = chat(stack, CHAT["messages"][0]["content"], model=MODEL, temperature=0, max_tokens=40).join()
    assert stream.text == whole["data"]["choices"][0]["message"]["content"]
    assert stream.finish_reason == "stop"
    assert stream.seqs == sorted(set(stream.seqs))


def test_stream_headers_and_chunks_are_as_promised(client: httpx.Client) -> None:
    body = {**CHAT, "stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/models/fake/chat/completions", json=body) as response:
        lines = list(response.iter_lines())
    assert response.headers["Content-Type"].startswith("text/event-stream")
    job_id = response.headers["X-Job-Id"]
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {job_id}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert lines[-2] == "data: [DONE]"
    text = "".join(c["choices"][0]["delta"]["content"] for c in chunks[:-1])
    assert text == fake_text(job_id, 3)


def test_completions_take_several_prompts_and_choices(client: httpx.Client) -> None:
    data = client.post("/models/fake/completions", json={"prompt": ["a b", "c"], "n": 2, "max_tokens": 2}).json()[
        "data"
    ]
    assert [c["text"] for c in data["choices"]] == [fake_text(data["id"], 2, i) for i in range(4)]
    assert data["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}


def test_a_job_that_an_older_version_has_made_is_served(stack: Stack, client: httpx.Client) -> None:
    """Its record does not say how many slots it takes."""
    request = {"prompt": ["a b", "c"], "n": 2, "max_tokens": 2}
    key = bootstrap(Credentials(stack.redis), KEY)
    job = Job(new_job_id("completion"), JobState.QUEUED, "completion", "fake", key.id, request)
    stack.store.create(job, ttl_ms=60_000)
    assert stack.redis.hget(keys.job(job.id), "slots") is None
    answer = eventually(lambda: client.get(f"/jobs/{job.id}").json()["data"].get("result"), "an answer")
    assert [choice["text"] for choice in answer["choices"]] == [fake_text(job.id, 2, i) for i in range(4)]


def test_echo_puts_the_prompt_before_the_answer(client: httpx.Client) -> None:
    data = client.post("/models/fake/completions", json={"prompt": "a b", "echo": True, "max_tokens": 1}).json()["data"]
    assert data["choices"][0]["text"] == "a b" + fake_text(data["id"], 1)


def test_logprobs_belong_to_the_chosen_tokens(client: httpx.Client) -> None:
    body = {**CHAT, "temperature": 0, "max_tokens": 4, "logprobs": True}
    choice = client.post(f"/models/{MODEL}/chat/completions", json=body).json()["data"]["choices"][0]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    assert all(entry["logprob"] <= 0 for entry in entries)
    assert any(entry["logprob"] < 0 for entry in entries)


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(client: httpx.Client) -> None:
    body = {**CHAT, "temperature": 0, "max_tokens": 40, "stop": ["France is", "never"]}
    choice = client.post(f"/models/{MODEL}/chat/completions", json=body).json()["data"]["choices"][0]
    assert choice["message"]["content"] == "The capital of "
    assert choice["finish_reason"] == "stop"


def test_the_same_seed_gives_the_same_answer(client: httpx.Client) -> None:
    body = {**CHAT, "temperature": 1.5, "max_tokens": 12, "seed": 7}
    answers = {
        client.post(f"/models/{MODEL}/chat/completions", json=body).json()["data"]["choices"][0]["message"]["content"]
        for _ in range(2)
    }
    assert len(answers) == 1


def test_a_penalty_changes_a_greedy_answer(client: httpx.Client) -> None:
    body = {"prompt": "one one one one one one", "temperature": 0, "max_tokens": 12}

    def ask(**penalty: float) -> str:
        return str(client.post(f"/models/{MODEL}/completions", json={**body, **penalty}).json()["data"]["choices"])

    plain = ask()
    assert ask() == plain
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"repetition_penalty": 2.0}):
        assert ask(**penalty) != plain


def test_control_tokens_in_user_text_stay_text(client: httpx.Client) -> None:
    def prompt_tokens(content: str) -> int:
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
        return int(client.post(f"/models/{MODEL}/chat/completions", json=body).json()["data"]["usage"]["prompt_tokens"])

    assert prompt_tokens("<|im_end|>") > prompt_tokens("a") + 3


def test_a_background_job_is_polled_to_its_result(client: httpx.Client) -> None:
    response = client.post(
        "/models/fake/chat/completions", json={**CHAT, "max_tokens": 5}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    location = response.headers["Location"]
    job_id = response.json()["data"]["job_id"]
    assert location == f"/jobs/{job_id}"
    job = eventually(
        lambda: (j := client.get(location).json()["data"])["status"] == "completed" and j, "the job is completed"
    )
    assert job["result"]["choices"][0]["message"]["content"] == fake_text(job_id, 5)
    assert job["usage"]["completion_tokens"] == 5
    assert job_id in [entry["job_id"] for entry in client.get("/jobs").json()["data"]["jobs"]]
    assert job_id not in [entry["job_id"] for entry in client.get("/jobs?status=failed").json()["data"]["jobs"]]


def test_events_resume_behind_the_last_event_id(client: httpx.Client, stack: Stack) -> None:
    stream = chat(stack, max_tokens=20).join()
    middle = stream.ids[7]
    with client.stream("GET", f"/jobs/{stream.job_id}/events", headers={"Last-Event-ID": middle}) as response:
        lines = list(response.iter_lines())
    assert [line[4:] for line in lines if line.startswith("id: ")] == stream.ids[8:]
    with client.stream("GET", f"/jobs/{stream.job_id}/events", headers={"Last-Event-ID": stream.ids[-1]}) as response:
        assert [line for line in response.iter_lines() if line.startswith("id: ")] == []


def test_cancel_ends_a_running_job_with_what_it_had(client: httpx.Client, stack: Stack) -> None:
    stream = chat(stack, max_tokens=5_000)
    eventually(lambda: len(stream.ids) > 5, "the stream has begun")
    assert client.delete(f"/jobs/{stream.job_id}").json()["data"]["status"] == "cancelling"
    stream.join(60)
    assert stream.finish_reason == "cancelled"
    assert fake_text(stream.job_id, 5_000).startswith(stream.text)
    assert client.delete(f"/jobs/{stream.job_id}").json()["data"]["status"] == "cancelled"
    job = client.get(f"/jobs/{stream.job_id}").json()["data"]
    assert job["result"]["choices"][0]["message"]["content"] == stream.text


def test_jobs_of_another_key_are_not_found(stack: Stack, client: httpx.Client) -> None:
    job_id = chat(stack, max_tokens=1).join().job_id
    _, secret = Credentials(stack.redis).create("other")
    with stack.client(secret) as other:
        for response in (
            other.get(f"/jobs/{job_id}"),
            other.get(f"/jobs/{job_id}/events"),
            other.delete(f"/jobs/{job_id}"),
        ):
            assert response.status_code == 404
            assert response.json()["data"]["reason"] == "job_not_found"
        assert other.get("/jobs").json()["data"]["jobs"] == []
    assert client.get(f"/jobs/{job_id}").status_code == 200


def test_openapi_and_documentation_need_no_network(client: httpx.Client) -> None:
    spec = client.get("/openapi.json").json()
    assert "/models/{model_id}/chat/completions" in spec["paths"]
    page = client.get("/docs/").text
    assert re.findall(r"https?://(?!127\.0\.0\.1)", page) == []
    assets = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page)
    assert {asset.rpartition(".")[2] for asset in assets} == {"js", "css"}
    assert [client.get(str(httpx.URL("/docs/").join(asset))).status_code for asset in assets] == [200] * len(assets)


def test_health_needs_no_key(stack: Stack) -> None:
    with stack.client("") as client:
        assert client.get("/health/live").status_code == 200
        ready = eventually(
            lambda: (r := client.get("/health/ready")).json()["data"]["keeper_trusted"] and r, "the keeper judges"
        )
        one = client.get("/health/ready?model=fake")
    assert ready.status_code == 200
    assert 0 < ready.json()["data"]["keeper_round_s"] < 60
    assert set(ready.json()["data"]["replicas"].values()) == {"healthy"}
    assert (one.status_code, one.json()["data"]["model"]) == (200, "active")


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def turns(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


BAD: list[tuple[str, str, Any, int, str]] = [
    ("broken JSON", "/models/fake/chat/completions", b'{"messages": [', 400, "JSON"),
    ("not UTF-8", "/models/fake/chat/completions", b'{"messages": "\xff"}', 400, "JSON"),
    ("deeply nested", "/models/fake/chat/completions", b"[" * 100_000, 400, "JSON"),
    ("a list", "/models/fake/chat/completions", b"[]", 400, "object"),
    ("empty", "/models/fake/chat/completions", b"", 400, "empty"),
    ("NaN", "/models/fake/chat/completions", b'{"temperature": NaN}', 400, "JSON"),
    ("half a surrogate", "/models/fake/completions", b'{"prompt": "\\ud800"}', 400, "JSON"),
    ("wrong type", "/models/fake/completions", {"prompt": 5}, 422, "prompt"),
    ("unknown field", "/models/fake/chat/completions", {**CHAT, "colour": 1}, 422, "colour: Unknown field. Allowed:"),
    ("unknown model", "/models/gpt-99/chat/completions", CHAT, 404, "Known models: all-minilm-l6-v2, claude-3"),
    ("no credentials", "/models/gpt-4/chat/completions", CHAT, 503, "Set the variable OPENAI_API_KEY"),
    ("no weights", "/models/qwen3-7b/chat/completions", CHAT, 503, "weights are on no machine"),
    ("no capability", "/models/all-minilm-l6-v2/completions", {"prompt": "x"}, 422, "it offers embedding"),
    ("no messages", "/models/fake/chat/completions", {"messages": []}, 422, "a list of 1 to"),
    (
        "unknown role",
        "/models/fake/chat/completions",
        {"messages": [{"role": "boss", "content": "x"}]},
        422,
        "allowed: system",
    ),
    ("900 brackets", "/models/fake/completions", b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "prompt: "),
    ("tools", "/models/fake/chat/completions", {**CHAT, "tools": [TOOL]}, 422, "'fake' does not offer tool_use"),
    ("no tools", "/models/fake/chat/completions", {**CHAT, "tool_choice": "auto"}, 422, "Needs tools"),
    (
        "a tool without a call",
        "/models/fake/chat/completions",
        turns({"role": "tool", "content": "x"}),
        422,
        "tool_call_id",
    ),
    ("no content", "/models/fake/chat/completions", turns({"role": "user"}), 422, "messages[0].content: Missing"),
    (
        "likely tokens",
        f"/models/{MODEL}/completions",
        {"prompt": "x", "logprobs": 2},
        422,
        "gives the chosen tokens only",
    ),
    ("a bias", f"/models/{MODEL}/completions", {"prompt": "x", "logit_bias": {"7": 1}}, 422, "leave out logit_bias"),
    (
        "an exact resume without a seed",
        "/models/fake/chat/completions",
        {**CHAT, "require_exact_resume": True},
        422,
        "require_exact_resume: A sampled answer without a seed is another one each time. Give a seed, or temperature",
    ),
    (
        "an exact resume of a seed and a penalty",
        f"/models/{MODEL}/chat/completions",
        {**CHAT, "seed": 1, "presence_penalty": 1, "repetition_penalty": 1.1, "require_exact_resume": True},
        422,
        f"The openvino engine of {MODEL} does not keep presence_penalty and a seed (at temperature 0 none is needed) "
        "over a resume. Ask without, or a model on an engine that keeps all of it: transformers.",
    ),
    (
        "an exact resume in few bits",
        f"/models/{MODEL}/chat/completions",
        {**CHAT, "temperature": 0, "seed": 1, "require_exact_resume": True},
        422,
        f"{MODEL} is computed or kept in fewer than 32 bits: near ties may fall otherwise after a resume. Deploy it in",
    ),
    ("min_p 2", "/models/fake/completions", {"prompt": "x", "min_p": 2}, 422, "min_p: Got 2"),
    ("an empty prompt", "/models/fake/completions", {"prompt": ""}, 422, "prompt: Must not be empty"),
    ("21 likely tokens", "/models/fake/completions", {"prompt": "x", "logprobs": 21}, 422, "from 0 to 20"),
    (
        "top_logprobs alone",
        "/models/fake/chat/completions",
        {**CHAT, "top_logprobs": 2},
        422,
        "top_logprobs: Needs logprobs",
    ),
    (
        "echo with logprobs",
        f"/models/{MODEL}/completions",
        {"prompt": "x", "logprobs": 0, "echo": True},
        422,
        "has no log probabilities of the prompt",
    ),
    ("max_tokens 0", "/models/fake/chat/completions", {**CHAT, "max_tokens": 0}, 422, "max_tokens: Got 0"),
    ("max_tokens -1", "/models/fake/chat/completions", {**CHAT, "max_tokens": -1}, 422, "max_tokens: Got -1"),
    ("max_tokens text", "/models/fake/chat/completions", {**CHAT, "max_tokens": "5"}, 422, "max_tokens: Got '5'"),
    ("max_tokens huge", f"/models/{MODEL}/chat/completions", {**CHAT, "max_tokens": 10**9}, 422, "1 to 8192"),
    (
        "max_tokens over the context",
        f"/models/{MODEL}/chat/completions",
        {**CHAT, "max_tokens": 8192},
        422,
        "maximum context length is 8192 tokens",
    ),
    (
        "prompt over the context",
        f"/models/{MODEL}/completions",
        {"prompt": "word " * 9000},
        422,
        "maximum context length is 8192 tokens",
    ),
    (
        "timeout 0",
        "/models/fake/completions",
        {"prompt": "x", "timeout": 0},
        422,
        "timeout: Got 0; must be a number from",
    ),
    ("timeout text", "/models/fake/completions", {"prompt": "x", "timeout": "5s"}, 422, "timeout: Got '5s'"),
    ("timeout of a year", "/models/fake/completions", {"prompt": "x", "timeout": 3.2e7}, 422, "0.001 to 86400"),
    ("temperature -1", "/models/fake/chat/completions", {**CHAT, "temperature": -1}, 422, "temperature: Got -1"),
    (
        "temperature 1e9",
        "/models/fake/chat/completions",
        {**CHAT, "temperature": 1e9},
        422,
        "temperature: Got 1000000000.0",
    ),
    ("temperature 3", "/models/fake/chat/completions", {**CHAT, "temperature": 3}, 422, "0.0 to 2.0"),
    ("1,000 stop strings", "/models/fake/chat/completions", {**CHAT, "stop": ["x"] * 1000}, 422, "at most 16"),
    ("an empty stop string", "/models/fake/chat/completions", {**CHAT, "stop": ""}, 422, "stop"),
    ("n 100", "/models/fake/chat/completions", {**CHAT, "n": 100}, 422, "from 1 to 8"),
    (
        "a feature the engine lacks",
        "/models/fake/chat/completions",
        {**CHAT, "presence_penalty": 1},
        422,
        "presence_penalty",
    ),
    ("10 MB", "/models/fake/completions", {"prompt": "x" * 10_000_000}, 413, "4194304 bytes"),
    ("unknown path", "/nothing/here", CHAT, 404, "/docs"),
    ("wrong method", "/health/live", CHAT, 405, "allowed: GET"),
]


@pytest.mark.parametrize(("name", "path", "body", "status", "says"), BAD, ids=[case[0] for case in BAD])
def test_bad_input_gets_a_clear_error(
    client: httpx.Client, name: str, path: str, body: Any, status: int, says: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post(path, content=content, headers={"Content-Type": "application/json"})
    answer = response.json()
    assert (response.status_code, answer["code"]) == (status, status)
    assert says in answer["message"], answer
    assert answer["request_id"] == response.headers["X-Request-Id"]
    assert client.post("/models/fake/completions", json={"prompt": "next", "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize(
    ("header", "says"),
    [("", "No API key"), ("Bearer wrong", "unknown"), ("Basic abc", "use 'Bearer"), ("Bearer \xff", "unknown")],
)
def test_a_request_without_a_valid_key_is_refused(stack: Stack, header: str, says: str) -> None:
    with stack.client("") as client:
        headers = {b"Authorization": header.encode("latin-1")} if header else {}
        response = client.get("/models", headers=headers)
    assert response.status_code == 401
    assert says in response.json()["message"]


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1" * 30, "²"])
def test_a_broken_last_event_id_is_refused(client: httpx.Client, stack: Stack, last_event_id: str) -> None:
    job_id = chat(stack, max_tokens=1).join().job_id
    response = client.get(f"/jobs/{job_id}/events", headers={b"Last-Event-ID": last_event_id.encode("latin-1")})
    assert response.status_code == 422
    assert "Last-Event-ID" in response.json()["message"]


def test_fifty_clients_that_leave_free_all_their_places(stack: Stack) -> None:
    """The count of running sequences is the engine's own."""
    sockets = []
    body = json.dumps({**CHAT, "max_tokens": 100_000, "stream": True})
    request = (
        "POST /models/fake/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {stack.client().headers['Authorization'].split()[1]}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", stack.settings.http_port))
        connection.sendall(request.encode())
        sockets.append(connection)
    eventually(lambda: stack.replica().sequences == stack.settings.max_batch_size, "the batch is full")
    for connection in sockets:
        connection.close()
    eventually(lambda: stack.replica().sequences == 0, "all places are free")
    eventually(lambda: not stack.running(), "no job runs")


def test_a_client_of_a_plain_request_that_leaves_frees_its_place(stack: Stack) -> None:
    body = json.dumps({**CHAT, "max_tokens": 100_000})
    with socket.create_connection(("127.0.0.1", stack.settings.http_port)) as connection:
        key = stack.client().headers["Authorization"]
        head = f"POST /models/fake/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        eventually(lambda: stack.replica().sequences == 1, "the job runs")
    eventually(lambda: stack.replica().sequences == 0, "its place is free")


def test_a_detached_job_goes_on_without_its_client(stack: Stack, client: httpx.Client) -> None:
    with client.stream(
        "POST", "/models/fake/chat/completions", json={**CHAT, "max_tokens": 400, "stream": True, "detach": True}
    ) as response:
        job_id = response.headers["X-Job-Id"]
    job = eventually(
        lambda: (j := client.get(f"/jobs/{job_id}").json()["data"])["status"] == "completed" and j, "it ended"
    )
    assert job["result"]["choices"][0]["message"]["content"] == fake_text(job_id, 400)


def test_a_prompt_is_not_kept_after_the_end_if_the_client_says_so(stack: Stack, client: httpx.Client) -> None:
    body = {"prompt": ["a secret", "word"], "max_tokens": 2, "store": False, "n": 2}
    answer = client.post("/models/fake/completions", json=body).json()["data"]
    assert "secret" not in json.dumps(stack.redis.hgetall(f"hr:{{{answer['id']}}}"))
    assert client.get(f"/jobs/{answer['id']}").json()["data"]["result"] == answer
    queued = client.post(
        "/models/fake/completions", json={**body, "max_tokens": 5000}, headers={"Prefer": "respond-async"}
    )
    job_id = queued.json()["data"]["job_id"]
    client.delete(f"/jobs/{job_id}")
    eventually(lambda: (job := stack.store.read(job_id)) and job.state.ended, "it is cancelled")
    assert "secret" not in json.dumps(stack.redis.hgetall(f"hr:{{{job_id}}}"))


def test_a_full_queue_says_when_to_come_back(stack: Stack, client: httpx.Client) -> None:
    with stack.full_line():
        waits = []
        for i in range(3):
            response = client.post("/models/fake/chat/completions", json={**CHAT, "user": str(i)})
            assert response.status_code == 429
            waits.append(int(response.headers["Retry-After"]))
    assert 1 <= waits[0] <= waits[1] <= waits[2] <= 60
    assert "limit is 256" in response.json()["message"]
    assert client.post("/models/fake/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200


def test_waiting_streams_tell_their_position_and_interactive_ones_go_first(stack: Stack, client: httpx.Client) -> None:
    running = [chat(stack, max_tokens=100_000) for _ in range(stack.settings.max_batch_size)]
    eventually(lambda: stack.replica().sequences == stack.settings.max_batch_size, "the batch is full")
    later = [chat(stack, max_tokens=1, priority="background") for _ in range(3)]
    eventually(lambda: all(s.job_id for s in later), "background jobs wait")
    first = [chat(stack, max_tokens=1) for _ in range(3)]
    eventually(lambda: all(s.job_id for s in first), "interactive ones wait behind them")
    eventually(lambda: any("queued position=" in comment for comment in later[0].comments), "it is told its position")
    client.delete(f"/jobs/{running[0].job_id}")  # one place is free, so that they come one after the other
    for stream in [*later, *first]:
        stream.join()
    for stream in running:
        client.delete(f"/jobs/{stream.job_id}")
        stream.join()

    def started(stream: Any) -> int:
        job = stack.store.read(stream.job_id)
        assert job is not None
        return job.started_at

    before = [stream for stream in later if started(stream) < max(map(started, first))]
    assert len(before) <= 1, "but for the share of background jobs"


def test_many_threads_get_their_own_answers(stack: Stack) -> None:
    streams = [chat(stack, max_tokens=50) for _ in range(64)]
    for stream in streams:
        stream.join()
        assert stream.text == fake_text(stream.job_id, 50)
    assert len({stream.job_id for stream in streams}) == 64

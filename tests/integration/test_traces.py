"""Traces: one from the client's request to the end of its job, whatever ends in between."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.cluster.startup import STAGES
from gateway.store import keys
from tests.collector import Collected, Collector, collector
from tests.deployments import deploy, ended
from tests.rpc import chat_request, client, start_rpc
from tests.stack import Stack, chat, eventually, family, free_port, running, stopped
from tests.upstreams.world import PATIENT, Tables, world
from web.rpc.stubs import model_pb2 as pb

#: Of a client whose trace is recorded, and of one whose trace is not.
RECORDED, UNRECORDED = "01", "00"
CATALOG = """
[models.other]
capabilities = ["chat"]
engine = "fake"
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: Collector) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in receiver.environ.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("t")
        settings = {"otel": True, "max_batch_size": 2, "log_format": "json", "web_workers": 2}
        with running(folder, {"fake": {"step_s": 0.02}}, catalog=CATALOG, **settings) as stack:
            start_rpc(stack)
            yield stack


def traced(flags: str = RECORDED) -> tuple[str, str]:
    """A trace id, and a header of a client that has begun it."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def ask(stack: Stack, headers: dict[str, str], *, path: str = "/v1/chat/completions", **body: object) -> httpx.Response:
    request = {"model": "fake", "messages": [{"role": "user", "content": "a secret prompt"}], "max_tokens": 5, **body}
    with stack.client() as asking:
        return asking.post(path, json=request, headers=headers)


def trace_of(stack: Stack, job_id: str) -> str:
    job = stack.store.head(job_id)
    assert job is not None
    return job.trace.trace_id


def by_name(spans: list[Collected]) -> dict[str, Collected]:
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


def test_one_trace_from_the_client_to_the_engine(stack: Stack, receiver: Collector) -> None:
    trace_id, header = traced()
    response = ask(stack, {"traceparent": header, "tracestate": "vendor=abc"})
    assert response.status_code == 200, response.text
    spans = by_name(receiver.trace(trace_id, "POST /v1/chat/completions", "chat fake"))
    server, job, queue, claim = (spans[name] for name in ("POST /v1/chat/completions", "chat fake", "queue", "claim"))
    assert [name for name in spans if name != server.name] == ["chat fake", "queue", "claim", "prefill", "decode"]
    assert server.parent_id == header.split("-")[2]
    assert (job.parent_id, queue.parent_id, claim.parent_id) == (server.span_id, job.span_id, job.span_id)
    assert {spans["prefill"].parent_id, spans["decode"].parent_id} == {claim.span_id}
    assert queue.ended == claim.began == spans["prefill"].began
    assert spans["prefill"].ended == spans["decode"].began
    assert spans["decode"].ended == claim.ended == job.ended
    assert {span.state for span in spans.values()} == {"vendor=abc"}
    assert not any(span.failed for span in spans.values())
    usage = response.json()["usage"]
    job_id = response.headers["X-Job-Id"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headrace",
        "gen_ai.request.model": "fake",
        "gen_ai.response.model": "fake",
        "gen_ai.response.id": job_id,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "headrace.job.id": job_id,
        "headrace.job.state": "completed",
        "headrace.request.id": response.headers["X-Request-Id"],
    }
    assert job.attributes.items() >= expected.items()
    assert 0 < job.attributes["gen_ai.response.time_to_first_chunk"] < 60
    assert claim.attributes["headrace.worker"] == stack.replica().incarnation
    assert claim.resource["service.instance.id"] == stack.replica().incarnation
    assert server.kind == "server"
    assert (
        server.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "http.route": "/v1/chat/completions",
            "server.port": stack.settings.http_port,
            "headrace.job.id": job_id,
        }.items()
    )
    assert {span.resource["service.name"] for span in spans.values()} == {"headrace"}


def test_a_time_that_otlp_can_not_represent_ends_no_trace(stack: Stack, receiver: Collector) -> None:
    damaged, whole = traced(), traced()
    with stopped(stack.processes["keeper"].pid):
        first, _ = (ask(stack, {"traceparent": header}) for _, header in (damaged, whole))
        last_ms = 253_402_300_799_999
        stack.redis.rpush(keys.timeline(first.headers["X-Job-Id"]), f'{{"at":{last_ms},"what":"batch","batch":1}}')
    for trace_id, _ in (damaged, whole):
        assert "decode" in [span.name for span in receiver.trace(trace_id, "POST /v1/chat/completions", "chat fake")]


def test_each_web_process_exports_its_own_spans(stack: Stack, receiver: Collector) -> None:
    def processes() -> set[str]:
        ask(stack, {})
        return {span.resource["service.instance.id"] for span in receiver.spans if span.kind == "server"}

    eventually(lambda: len({name for name in processes() if name.startswith("web.n1:")}) == 2, "spans of both")


def test_log_lines_name_the_trace(stack: Stack) -> None:
    trace_id, header = traced()
    ask(stack, {"traceparent": header})

    def found() -> bool:
        lines = (stack.folder / "logs" / "web.log").read_text().splitlines()
        return any(f'"trace_id": "{trace_id}"' in line and "POST /v1/chat/completions" in line for line in lines)

    eventually(found, "the line of the request's end")


def test_the_call_of_grpc_is_traced_too(stack: Stack, receiver: Collector) -> None:
    trace_id, header = traced()
    with client(stack) as rpc:
        rpc.call("CreateChatCompletion", chat_request("hello"), metadata=(("traceparent", header),))
    method = f"{pb.DESCRIPTOR.services_by_name['ModelService'].full_name}/CreateChatCompletion"
    spans = by_name(receiver.trace(trace_id, method, "chat fake"))
    server = spans[method]
    assert server.kind == "server"
    assert server.attributes.items() >= {"rpc.system.name": "grpc", "rpc.response.status_code": "OK"}.items()
    assert spans["chat fake"].parent_id == server.span_id


@pytest.mark.parametrize("victim", ["worker", "engine"])
def test_a_job_that_is_resumed_has_one_trace(stack: Stack, receiver: Collector, victim: str) -> None:
    stream = chat(stack, max_tokens=200)
    eventually(lambda: len(stream.ids) > 4, "it runs")
    replica = stack.replica()
    psutil.Process(replica.engine_pid if victim == "engine" else replica.pid).kill()
    stream.join()
    spans = receiver.trace(trace_of(stack, stream.job_id), "chat fake")
    names = [span.name for span in spans if span.kind != "server"]
    assert names == ["chat fake", "queue", "claim", "prefill", "decode", "queue", "claim", "prefill", "decode"]
    first, second = (span for span in spans if span.name == "claim")
    assert first.failed and first.attributes["error.type"] in ("lost", "crashed")
    assert second.links == (first.span_id,) and not second.failed
    assert second.attributes["headrace.claim.replayed_tokens"] > 4
    if victim == "worker":
        assert first.resource["service.instance.id"] != second.resource["service.instance.id"]
    eventually(lambda: stack.replica().status == "active", "it serves again")


def test_a_trace_is_whole_though_those_that_export_it_are_killed(stack: Stack, receiver: Collector) -> None:
    stream = chat(stack, max_tokens=150)
    eventually(lambda: len(stream.ids) > 4, "it runs")
    for name in ("web", "keeper"):
        for process in family(stack.processes[name].pid):
            process.kill()
        stack.processes[name].wait()
    stack.start("web")
    stream.join()
    assert stream.job_id in stack.redis.lrange(keys.TRACES, 0, -1)
    stack.start("keeper")
    spans = receiver.trace(trace_of(stack, stream.job_id), "chat fake")
    assert [span.name for span in spans] == ["chat fake", "queue", "claim", "prefill", "decode"]


def test_a_deployment_has_a_span_for_each_stage(stack: Stack, receiver: Collector) -> None:
    trace_id, header = traced()
    with stack.client() as asking:
        asking.headers["traceparent"] = header
        assert ended(asking, deploy(asking, "other"))["status"] == "completed"
    spans = receiver.trace(trace_id, "deploy other")
    (whole,) = [span for span in spans if span.name == "deploy other"]
    stages = [span for span in spans if span.name in STAGES]
    assert [span.name for span in stages] == list(STAGES)
    assert {span.parent_id for span in stages} == {whole.span_id}
    assert all(whole.began <= span.began <= span.ended <= whole.ended for span in stages)
    assert whole.attributes["headrace.model"] == "other"
    assert not any(name.startswith("gen_ai.") for span in spans for name in span.attributes)


def test_a_request_that_is_refused_has_a_span(stack: Stack, receiver: Collector) -> None:
    trace_id, header = traced()
    assert ask(stack, {"traceparent": header}, model="none").status_code == 404
    (server,) = receiver.trace(trace_id, "POST /v1/chat/completions")
    assert server.attributes["http.response.status_code"] == 404
    assert not server.failed


def test_the_client_decides_whether_its_trace_is_recorded(stack: Stack, receiver: Collector) -> None:
    unrecorded, header = traced(UNRECORDED)
    stream = ask(stack, {"traceparent": header})
    recorded, other = traced()
    ask(stack, {"traceparent": other})
    receiver.trace(recorded, "chat fake")
    assert unrecorded not in {span.trace_id for span in receiver.spans}
    assert trace_of(stack, stream.headers["X-Job-Id"]) == unrecorded


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x" * 5000,
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16,
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
    ],
)
def test_a_malformed_header_begins_a_new_trace(stack: Stack, receiver: Collector, header: str) -> None:
    response = ask(stack, {"traceparent": header, "tracestate": "a=b"})
    assert response.status_code == 200
    trace_id = trace_of(stack, response.headers["X-Job-Id"])
    assert trace_id not in ("", "1" * 32, "0" * 32)
    spans = by_name(receiver.trace(trace_id, "POST /v1/chat/completions", "chat fake"))
    assert spans["POST /v1/chat/completions"].parent_id == ""
    assert spans["chat fake"].state == ""


def test_requests_that_only_look_begin_no_trace(stack: Stack, receiver: Collector) -> None:
    with stack.client() as asking:
        assert asking.get("/models").status_code == 200
    recorded, header = traced()
    with stack.client() as asking:
        assert asking.get("/models", headers={"traceparent": header}).status_code == 200
    receiver.trace(recorded, "GET /models")
    assert [span.trace_id for span in receiver.spans if span.name == "GET /models"] == [recorded]


def test_nothing_of_prompts_answers_and_keys_is_sent(stack: Stack, receiver: Collector) -> None:
    recorded, header = traced()
    answer = ask(stack, {"traceparent": header}).json()["choices"][0]["message"]["content"]
    receiver.trace(recorded, "chat fake")
    sent = b"".join(receiver.bodies)
    assert answer
    assert b"secret prompt" not in sent
    assert b"bootstrap-key" not in sent


def test_a_full_list_forgets_the_oldest_and_what_is_gone_is_left_out(stack: Stack, receiver: Collector) -> None:
    with stopped(stack.processes["keeper"].pid):
        stack.redis.rpush(keys.TRACES, *(f"chatcmpl-{i}" for i in range(10_000)))
        trace_id, header = traced()
        ask(stack, {"traceparent": header})
        assert stack.redis.llen(keys.TRACES) == 10_000
        assert 0 < stack.redis.ttl(keys.TRACES) <= 86_400
    receiver.trace(trace_id, "chat fake")
    assert stack.redis.llen(keys.TRACES) == 0


def test_the_call_of_a_provider_carries_the_trace_on(
    tmp_path: Path, receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in receiver.environ.items():
        monkeypatch.setenv(name, value)

    def tables(openai: str, anthropic: str) -> tuple[Tables, Tables]:
        urls = {"openai": openai, "anthropic": anthropic}
        providers = {
            name: {"protocol": name, "base_url": url, "api_key_env": f"UP_{name.upper()}_KEY", **PATIENT}
            for name, url in urls.items()
        }
        return providers, {f"{n}-model": {"capabilities": ["chat"], "upstream": "gpt-4", "provider": n} for n in urls}

    with world(tmp_path / "w", tables, otel=True) as around:
        for name, upstream in (("openai", around.openai), ("anthropic", around.anthropic)):
            trace_id, header = traced()
            response = ask(around.stack, {"traceparent": header, "tracestate": "a=b"}, model=f"{name}-model")
            assert response.status_code == 200, response.text
            spans = receiver.trace(trace_id, f"chat {name}-model", "POST /v1/chat/completions")
            call = next(span for span in spans if span.kind == "client")
            (sent,) = upstream.received
            assert sent.headers["traceparent"] == f"00-{trace_id}-{call.span_id}-01"
            assert sent.headers["tracestate"] == "a=b"
            port = int(upstream.url.rpartition(":")[2])
            place = {"gen_ai.provider.name": name, "server.address": "127.0.0.1", "server.port": port}
            assert call.attributes.items() >= place.items()
            assert around.stack.registry.providers()[0].incarnation == call.resource["service.instance.id"]


def test_without_a_collector_requests_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    environ = {**Collector(f"http://127.0.0.1:{port}").environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    for name, value in {**environ, "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path / "s", {"fake": {}}, otel=True) as stack:
        assert [ask(stack, {}).status_code for _ in range(30)] == [200] * 30
        with collector(port) as late:
            trace_id, header = traced()
            ask(stack, {"traceparent": header})
            late.trace(trace_id, "POST /v1/chat/completions", "chat fake")


def test_when_off_no_process_loads_what_makes_or_exports_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    with running(tmp_path / "s", {"fake": {}}) as stack:
        start_rpc(stack)
        stack.start("provider")
        eventually(stack.registry.providers, "a provider worker")
        _, header = traced()
        response = ask(stack, {"traceparent": header})
        assert response.status_code == 200
        assert trace_of(stack, response.headers["X-Job-Id"]) == ""
        assert stack.redis.llen(keys.TRACES) == 0
        logs = {path.name: path.read_text(errors="replace") for path in (stack.folder / "logs").glob("*.log")}
    assert all("import 'gateway" in logs[f"{name}.log"] for name in ("web", "rpc", "keeper", "agent", "provider"))
    unwanted = (
        "opentelemetry.exporter",
        "opentelemetry.sdk.trace",
        "gateway.tracing.otlp",
        "gateway.tracing.request_spans",
    )
    assert [name for name, text in logs.items() if any(f"import '{one}" in text for one in unwanted)] == []

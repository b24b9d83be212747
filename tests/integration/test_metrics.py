"""`GET /metrics`, as Prometheus reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import httpx
import psutil
import pytest
from prometheus_client.openmetrics import parser as openmetrics

from gateway.store import keys
from gateway.store.metrics import COUNTED, GAUGES, OF_KEYS
from tests.metrics import Scrape
from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.stack import KEY, Stack, chat, eventually, free_port, running, stopped
from web.rpc.stubs import model_pb2 as pb

CATALOG = """
[models.fake]
capabilities = ["chat", "completion"]
engine = "fake"
context_length = 4096
max_tokens = 4096
pricing = { input_per_1k_tokens = 1.0, output_per_1k_tokens = 2.0, currency = "EUR" }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("m")
    with running(folder, {"fake": {"step_s": 0.02}}, catalog=CATALOG, lease_s=2.0, max_batch_size=2) as stack:
        yield stack


def test_everything_is_declared_and_named_once() -> None:
    names = [metric.name for metric in (*COUNTED.values(), *GAUGES.values(), OF_KEYS)]
    assert len(names) == len(set(names))
    assert all(name.startswith(("headrace_", "gen_ai_server_")) for name in names)
    assert not [name for name in names if name.endswith("_total")]  # the format adds it


def test_a_scrape_says_what_is_and_what_was(stack: Stack, client: httpx.Client) -> None:
    running = [chat(stack, max_tokens=3000) for _ in range(2)]
    eventually(lambda: all(len(stream.ids) > 3 for stream in running), "two run")
    waiting = [chat(stack, max_tokens=5) for _ in range(3)]
    eventually(lambda: all(stream.job_id for stream in waiting), "three wait")
    eventually(lambda: Scrape(client).total("headrace_replica_sequences") == 2, "its heartbeat says so")
    found = Scrape(client)
    assert found.series("headrace_queue_jobs", model="fake") == {("background",): 0, ("interactive",): 3}
    assert found.total("headrace_queue_oldest_seconds", model="fake") > 0
    assert found.total("headrace_running_jobs") == 2
    assert found.total("headrace_replica_slots") == 2
    steps, steps_s = (found.total(f"headrace_replica_{what}") for what in ("steps", "step_seconds"))
    assert 0.02 <= steps_s / steps < 2
    assert found.total("headrace_replica_healthy") == 1
    assert found.total("headrace_replica_memory_bytes") > 10**6
    assert found.total("headrace_device_memory_bytes") > 10**8
    assert (found.total("headrace_redis_up"), found.total("headrace_keeper_up")) == (1, 1)
    assert 0 < found.total("headrace_redis_round_trip_seconds") < 1
    for stream in running:
        client.delete(f"/jobs/{stream.job_id}")
    for stream in (*running, *waiting):
        stream.join()
    eventually(lambda: not stack.running(), "all are settled")
    found = Scrape(client)
    usages = [client.get(f"/jobs/{one.job_id}").json()["data"]["usage"] for one in (*running, *waiting)]
    cost = sum(one["prompt_tokens"] + 2 * one["completion_tokens"] for one in usages) / 1000
    assert found.series("headrace_cost_total") == {("EUR", "fake"): pytest.approx(cost)}
    assert found.series("headrace_jobs_total", kind="chat") == {("cancelled", "fake"): 2, ("done", "fake"): 3}
    assert found.total("gen_ai_server_request_duration_seconds_count", error_type="cancelled") == 2


def test_a_histogram_adds_up(stack: Stack, client: httpx.Client) -> None:
    before = Scrape(client)
    stream = chat(stack, max_tokens=30).join()
    assert stream.error is None
    name, labels = "gen_ai_server_request_duration_seconds", {"error_type": ""}
    eventually(
        lambda: Scrape(client).total(f"{name}_count", **labels) > before.total(f"{name}_count", **labels), "it is"
    )
    found = Scrape(client)
    buckets = found.series(f"{name}_bucket", gen_ai_operation_name="chat", gen_ai_request_model="fake", **labels)
    bounds = {float(bound): count for (bound,), count in buckets.items()}
    assert list(bounds) == [*COUNTED["duration"].buckets, float("inf")]
    assert sorted(bounds.values()) == list(bounds.values())
    assert bounds[float("inf")] == found.total(f"{name}_count", **labels)
    took_s = found.total(f"{name}_sum", **labels) - before.total(f"{name}_sum", **labels)
    assert 30 * 0.02 < took_s < 60


def test_what_a_process_says_goes_with_it(stack: Stack, client: httpx.Client) -> None:
    replica = stack.replica()
    steps = Scrape(client).series("headrace_replica_steps", model="fake")
    assert list(steps) == [(replica.device, replica.node, replica.replica_id)]
    with stopped(stack.processes["agent"].pid):  # which would start another
        psutil.Process(replica.pid).kill()
        eventually(lambda: not Scrape(client).series("headrace_replica_steps"), "it is gone")
    eventually(lambda: Scrape(client).total("headrace_replica_healthy") == 1, "another serves")


def test_a_client_that_left_costs_slots_which_is_counted(stack: Stack, client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4000, "stream": True}
    with client.stream("POST", "/models/fake/chat/completions", json=body) as response:
        next(response.iter_lines())
    name = "headrace_abandoned_slot_seconds_total"
    eventually(lambda: Scrape(client).total(name) > 0, "it was cancelled, and counted", 40)
    assert Scrape(client).total(name) < stack.settings.grace_s + 30


def test_errors_are_counted_by_status_and_reason(stack: Stack, client: httpx.Client) -> None:
    before = Scrape(client)
    client.get("/nothing")
    client.post("/models/fake/chat/completions", json={"messages": 7})
    start_rpc(stack)
    with rpc_client(stack) as called, pytest.raises(grpc.RpcError):
        called.call("GetModel", pb.GetModelRequest(model_id="nobody"))

    def more() -> dict[tuple[str, ...], float]:
        name = "headrace_error_replies_total"
        return {key: n - before.series(name).get(key, 0) for key, n in Scrape(client).series(name).items()}

    expected = {("http", "not_found", "404"), ("http", "invalid_request", "422"), ("grpc", "model_not_found", "404")}
    eventually(lambda: {key for key, n in more().items() if n == 1} >= expected, "all are counted")


def test_openmetrics_is_spoken_too(client: httpx.Client) -> None:
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics.text_string_to_metric_families(response.text)}
    assert {"headrace_jobs", "headrace_redis_up"} <= families


@contextlib.contextmanager
def other_web(stack: Stack, **changes: Any) -> Iterator[str]:
    """The URL of a second web process with other settings."""
    settings = replace(stack.settings, http_port=free_port(), **changes)
    stack.start("web-2", settings=settings)
    url = f"http://127.0.0.1:{settings.http_port}"
    try:
        eventually(lambda: _status(f"{url}/health/live", "") == 200, "it is up")
        yield url
    finally:
        stack.kill("web-2")


@pytest.mark.parametrize(("word", "statuses"), [("key", (200, 403, 401)), ("anyone", (200,) * 3), ("off", (404,) * 3)])
def test_who_may_read_it(stack: Stack, client: httpx.Client, word: str, statuses: tuple[int, ...]) -> None:
    made = client.post("/keys", json={"name": "user", "scopes": ["inference", "deploy"]}).json()["data"]
    with other_web(stack, metrics=word, metrics_keys=word == "anyone") as url:
        assert tuple(_status(f"{url}/metrics", key) for key in (KEY, made["secret"], "")) == statuses
        reader = client.post("/keys", json={"name": "prometheus", "scopes": ["metrics"]}).json()["data"]["secret"]
        assert (_status(f"{url}/metrics", reader), _status(f"{url}/jobs", reader)) == (statuses[0], 200)
        if word == "anyone":
            assert 'headrace_key_jobs_total{end="done",key_id=' in httpx.get(f"{url}/metrics").text


def _status(url: str, key: str) -> int:
    try:
        return httpx.get(url, headers={"Authorization": f"Bearer {key}"} if key else {}).status_code
    except httpx.TransportError:
        return 0


def test_what_others_have_written_there_harms_nobody(stack: Stack, client: httpx.Client) -> None:
    before = Scrape(client).total("headrace_jobs_total")
    junk = {
        "jobs": "1",
        "jobs\x1ffake": "x",
        "nothing\x1ffake": "7",
        "duration\x1f\x1f": "1",
        "": "2",
        "jobs\x1fa\x1fb\x1fc": "-",
    }
    stack.redis.hset(keys.METRICS, mapping=junk)
    assert Scrape(client).total("headrace_jobs_total") == before
    stack.redis.hset(keys.METRICS, "jobs\x1ffake\x1fchat\x1fdone", "no number")
    assert chat(stack, max_tokens=3).join().error is None  # it ends all the same
    stack.redis.delete(keys.METRICS)
    stack.redis.set(keys.METRICS, "no hash")
    assert chat(stack, max_tokens=3).join().error is None
    assert Scrape(client).total("headrace_redis_up") == 1
    stack.redis.delete(keys.METRICS)


def test_without_redis_it_says_that_alone(stack: Stack, client: httpx.Client) -> None:
    with other_web(stack, metrics="anyone") as url, httpx.Client(base_url=url) as anyone:
        stack.kill("redis")
        try:
            found = Scrape(anyone)
            assert found.series("headrace_redis_up") == {(): 0}
            assert "headrace_jobs" not in found.families
            assert client.get("/metrics").status_code == 503  # nobody can look up the key
        finally:
            stack.start_redis()

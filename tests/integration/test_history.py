"""`GET /history`: the last hour, noted by a keeper, and what went wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict

from gateway.access.api_keys import Credentials
from gateway.metrics import history
from gateway.metrics.history import Counted, History, Point
from gateway.models.catalog import load_catalog
from gateway.store import keys
from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.stack import Stack, chat, eventually, running
from web.rpc.stubs import model_pb2 as pb
from workers.keeper.recorder import Recorder

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("h"), {"fake": {"step_s": 0.02}}) as stack:
        eventually(lambda: stack.redis.llen(keys.HISTORY), "the keeper has added the first point")
        start_rpc(stack)
        yield stack


@pytest.fixture
def recorder(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """One that adds a point whenever it is asked."""
    monkeypatch.setattr(History, "take_turn", lambda _: True)
    monkeypatch.setattr("workers.keeper.recorder.EVERY_S", 0)
    return Recorder(stack.store, stack.registry, load_catalog(stack.settings, stack.redis))


def look(client: httpx.Client) -> dict[str, Any]:
    response = client.get("/history")
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def counts(found: list[dict[str, Any]], name: str) -> dict[str, int]:
    return {one[name]: one["count"] for one in found}


def test_an_hour_has_its_points_ends_and_errors(stack: Stack, client: httpx.Client, recorder: Recorder) -> None:
    before = look(client)
    assert before["since"] == before["points"][0]["at"]
    assert before["points"][0]["ended"] == 0, "nobody knows what was before"
    streams = [chat(stack, max_tokens=2000) for _ in range(2)]
    eventually(lambda: stack.replica().held == 2 and all(stream.job_id for stream in streams), "two run")
    recorder.step()
    for stream in streams:
        client.delete(f"/jobs/{stream.job_id}")
    chat(stack, max_tokens=3).join()
    for stream in streams:
        stream.join()
    assert client.get("/models/none").status_code == 404
    ended = {"done": 1, "cancelled": 2}
    eventually(lambda: counts(look(client)["ends"], "end") == ended, "all are settled")
    eventually(lambda: "model_not_found" in counts(look(client)["replies"], "reason"), "the error reply is counted")
    recorder.step()
    after = look(client)
    busy, idle = after["points"][-2:]
    assert (busy["running"], busy["slots"], busy["ended"]) == (2, 32, 0)
    assert (idle["running"], idle["ended"], idle["failed"]) == (0, 3, 0)
    assert idle["refused"] >= 1
    assert (idle["provider_calls"], idle["provider_errors"], idle["tokens_per_second"] >= 0) == (0, 0, True)
    assert (idle["interactive"], idle["background"]) == (0, 0)
    assert (after["every_s"], after["failures"]) == (30, [])
    assert {"status": 404, "reason": "model_not_found", "count": 1} in after["replies"]


def test_calls_to_providers_are_told_by_how_they_ended(stack: Stack, client: httpx.Client) -> None:
    for field, number in {"one\x1fdone\x1f3": 5, "one\x1ftimeout\x1f4": 2, "one\x1fdone\x1fsum": 900}.items():
        stack.redis.hincrby(keys.METRICS, f"calls\x1f{field}", number)
    (found,) = look(client)["providers"]
    assert (found["provider"], found["calls"], found["errors"]) == ("one", 7, 2)
    assert counts(found["ends"], "end") == {"done": 5, "timeout": 2}


def test_both_faces_tell_the_same(stack: Stack, client: httpx.Client) -> None:
    with rpc_client(stack) as rpc:
        told = rpc.call("GetHistory", pb.GetHistoryRequest())
    found = look(client)
    found["points"] = found["points"][: len(told.points)]
    assert told == ParseDict(found, pb.GetHistoryResponse())
    assert told.points
    assert told.providers


def test_points_are_bounded_and_one_keeper_adds_them(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not History(stack.redis).take_turn(), "the keeper has just added one"
    monkeypatch.setattr(history, "POINTS", 5)
    kept = History(stack.redis)
    for at in range(8):
        kept.add(Point(at_ms=at))
    assert [point.at_ms for point in kept.points()] == [3, 4, 5, 6, 7]


def test_what_lies_in_the_way_is_left_out(stack: Stack, client: httpx.Client) -> None:
    stack.redis.lpush(keys.HISTORY, "no JSON", '{"at_ms": "x"}', '{"ends": {"done": -1.5}}')
    points = len(look(client)["points"])
    stack.redis.lpush(keys.HISTORY, *(f'{{"at_ms": {at}}}' for at in (10**17, -(10**17), 2**63 - 1)))
    stack.redis.hset(keys.METRICS, f"errors\x1frest\x1f{'9' * 5000}\x1fother", "1")
    assert len(look(client)["points"]) == points
    stack.redis.lpush(keys.HISTORY, '{"at_ms": 5, "from_another_version": 1}')
    assert len(look(client)["points"]) == points + 1
    stack.redis.delete(keys.HISTORY)
    assert (look(client)["points"], look(client)["since"]) == ([], None)
    stack.redis.set(keys.HISTORY, "of another program")
    assert look(client)["points"] == []
    stack.redis.delete(keys.HISTORY)


def test_it_needs_the_scope_of_those_who_deploy(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest")
    with stack.client(secret) as client:
        assert client.get("/history").status_code == 403


def test_counters_that_begin_anew_are_no_negative_counts() -> None:
    before, after = Counted(ends={"done": 9, "failed": 1}), Counted(ends={"done": 4, "failed": 1, "cancelled": 2})
    assert after.since(before).ends == {"done": 4, "cancelled": 2}

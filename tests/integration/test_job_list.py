"""The list of jobs: pages that miss nothing, filters, whose jobs a key sees, on both faces and in `headrace jobs`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from google.protobuf.json_format import MessageToDict

from gateway.access.api_keys import Credentials
from gateway.inference import job_list
from gateway.inference.job_list import JobFilter, Place
from gateway.jobs.control import cancel
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.jobs.store import JobStore
from gateway.store import keys
from tests.commands import Command, run
from tests.rpc import Client
from tests.stack import KEY, REPOSITORY, Stack, eventually
from web.rpc.stubs import model_pb2 as pb

ALL = JobFilter()
BACKGROUND = {"Prefer": "respond-async"}


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


def make(store: JobStore, key_id: str, model: str = "fake", kind: str = "chat") -> str:
    job = Job(new_job_id(kind), JobState.QUEUED, kind, model, key_id, {"messages": []})
    return store.create(job, ttl_ms=600_000).job.id


def at(store: JobStore, key_id: str, made_ms: dict[str, int]) -> None:
    """Let jobs have been made at certain times, as the index of their key has it."""
    store.redis.zadd(keys.owned(key_id), made_ms, xx=True)


def pages(store: JobStore, key_ids: Sequence[str], wanted: JobFilter = ALL, limit: int = 7) -> Iterator[list[str]]:
    after: Place | None = None
    while True:
        page = job_list.page(store, key_ids, wanted, limit=limit, after=after)
        yield [job.id for job in page.jobs]
        if page.cursor is None:
            return
        after = Place.parse(str(page.cursor))


def test_every_job_comes_once_while_others_are_made_and_end(store: JobStore) -> None:
    """Also where many of several keys were made in the same millisecond."""
    draw = random.Random(4)
    names = [f"key-{i}" for i in range(5)]
    made: dict[str, tuple[int, str]] = {}
    for name in names:
        ids = {make(store, name): draw.randrange(1_000, 1_012) for _ in range(30)}
        at(store, name, ids)
        made |= {job_id: (made_ms, job_id) for job_id, made_ms in ids.items()}
    seen: list[str] = []
    for page in pages(store, names):
        seen += page
        make(store, draw.choice(names))
        job = store.read(draw.choice(list(made)))
        assert job is not None
        cancel(store, job, reason="client_request")
    assert seen == sorted(made, key=made.__getitem__, reverse=True)


def test_a_key_with_more_jobs_than_are_read_at_once_hides_none_of_the_others(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "BATCH", 4)
    monkeypatch.setattr(job_list, "LEAST_OF_KEY", 3)
    busy = {make(store, "busy"): 2_000 + i for i in range(40)}
    calm = {make(store, "calm"): 1_990 + 10 * i for i in range(5)}
    at(store, "busy", busy)
    at(store, "calm", calm)
    made = busy | calm
    seen = [job_id for page in pages(store, ["busy", "calm", "idle"]) for job_id in page]
    assert seen == sorted(made, key=lambda job_id: (made[job_id], job_id), reverse=True)


def test_who_looks_for_few_among_many_gets_short_pages_but_all(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "BATCH", 5)
    monkeypatch.setattr(job_list, "ROUNDS", 2)
    rare = []
    for i in range(60):
        job_id = make(store, "key", model="rare" if i % 20 == 7 else "fake")
        at(store, "key", {job_id: 1_000 + i})
        rare += [job_id] if i % 20 == 7 else []
    found = list(pages(store, ["key"], JobFilter(model="rare"), limit=50))
    assert [job_id for page in found for job_id in page] == rare[::-1]
    assert len(found) == 6


def test_filters_are_all_met(store: JobStore) -> None:
    ended = make(store, "key")
    waiting, vectors = make(store, "key"), make(store, "key", kind="embedding")
    job = store.read(ended)
    assert job is not None
    cancel(store, job, reason="client_request")
    at(store, "key", {ended: 1_000, waiting: 2_000, vectors: 3_000})

    def listed(**wanted: Any) -> list[str]:
        return [job_id for page in pages(store, ["key"], JobFilter(**wanted)) for job_id in page]

    assert listed(state=JobState.CANCELLED) == [ended]
    assert listed(state=JobState.QUEUED) == [vectors, waiting]
    assert listed(kind="chat") == [waiting, ended]
    assert listed(since_ms=2_000) == [vectors, waiting]
    assert listed(kind="chat", since_ms=2_000, model="fake") == [waiting]
    assert listed(model="other") == []


def test_a_record_that_has_expired_is_passed_over(store: JobStore) -> None:
    gone, there = make(store, "key"), make(store, "key")
    store.redis.delete(keys.job(gone))
    assert [job_id for page in pages(store, ["key"], limit=1) for job_id in page] == [there]


def background(client: httpx.Client, model: str = "fake", path: str = "completions", **body: Any) -> str:
    body = body or {"prompt": "a", "max_tokens": 1}
    response = client.post(f"/models/{model}/{path}", json=body, headers=BACKGROUND)
    assert response.status_code == 202, response.text
    return str(response.json()["data"]["job_id"])


def listed(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    while True:
        response = client.get("/jobs", params=query)
        assert response.status_code == 200, response.text
        page = response.json()["data"]
        found += page["jobs"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def test_an_admin_sees_the_jobs_of_all_keys_and_others_their_own(stack: Stack, client: httpx.Client) -> None:
    since = datetime.now(UTC).isoformat()
    record, secret = Credentials(stack.redis).create("lister")
    with stack.client(secret) as mine:
        first, second = background(mine), background(mine)
        others = background(client)
        assert [job["job_id"] for job in listed(mine, limit=1)] == [second, first]
        assert {job["key_id"] for job in listed(mine)} == {record.id}
        assert [job["job_id"] for job in listed(client, since=since, limit=1)] == [others, second, first]
        for name in (record.id, "lister"):
            assert [job["job_id"] for job in listed(client, key=name)] == [second, first]
            assert [job["job_id"] for job in listed(mine, key=name)] == [second, first]
        refused = mine.get("/jobs", params={"key": "bootstrap"})
        assert (refused.status_code, refused.json()["data"]["reason"]) == (403, "permission_denied")
    unknown = client.get("/jobs", params={"key": "nobody"})
    assert (unknown.status_code, unknown.json()["data"]["reason"]) == (404, "key_not_found")


def test_both_faces_list_the_same_page_by_page(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    _, secret = Credentials(stack.redis).create("pager")
    with stack.client(secret) as mine:
        ids = [background(mine) for _ in range(3)]
        other = background(mine, path="chat/completions", messages=[{"role": "user", "content": "a"}], max_tokens=1)
        eventually(lambda: len(listed(mine, status="completed")) == 4, "all have ended")
    query = {"key": "pager", "kind": "completion", "model": "fake", "status": "completed", "limit": 2}
    query["since"] = "2020-01-01"
    page = client.get("/jobs", params=query).json()["data"]
    twin = rpc.call("ListJobs", pb.ListJobsRequest(**query))
    assert twin.next_cursor == page["next_cursor"]
    assert [job["job_id"] for job in page["jobs"]] == [job.job_id for job in twin.jobs] == ids[:0:-1]
    assert [job["key_id"] for job in page["jobs"]] == [MessageToDict(job)["keyId"] for job in twin.jobs]
    rest = rpc.call("ListJobs", pb.ListJobsRequest(**query, cursor=twin.next_cursor))
    assert ([job.job_id for job in rest.jobs], rest.HasField("next_cursor")) == ([ids[0]], False)
    assert [job["job_id"] for job in listed(client, key="pager", kind="chat")] == [other]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"cursor": "yesterday"}, "cursor: Got 'yesterday'; must be the next_cursor of another page."),
        ({"kind": "cat"}, "kind: Got 'cat'; allowed: chat, completion, embedding, addition, deployment."),
        ({"since": "soon"}, "since: Got 'soon'; must be a date or time in ISO 8601"),
        ({"status": "done"}, "status: Must be one of: pending, in_progress"),
    ],
)
def test_a_wrong_query_is_told_what_is_allowed(client: httpx.Client, query: dict[str, str], text: str) -> None:
    response = client.get("/jobs", params=query)
    assert response.status_code == 422
    assert text in response.json()["message"]


def environ(stack: Stack) -> dict[str, str]:
    """Of a command on the gateway's own machine."""
    return {**os.environ, **stack.settings.environ(), "HEADRACE_API_KEY": KEY}


def test_the_command_lists_here_and_from_elsewhere(stack: Stack, client: httpx.Client, tmp_path: Path) -> None:
    _, secret = Credentials(stack.redis).create("terminal")
    with stack.client(secret) as mine:
        job_id = background(mine)
        eventually(lambda: listed(mine, status="completed"), "it has ended")
    here, as_json, none = run(
        [
            Command(("jobs", "terminal", "--since", "1h")),
            Command(("jobs", "terminal", "--json", "-n", "1")),
            Command(("jobs", "terminal", "--status", "failed")),
        ],
        environ(stack),
    )
    (there, wrong) = run(
        [Command(("jobs", "--url", stack.url)), Command(("jobs", "--url", stack.url, "--since", "never"))],
        {**os.environ, "HEADRACE_DATA_DIR": str(tmp_path / "var"), "HEADRACE_API_KEY": secret},
    )
    assert job_id in here.stdout
    assert "completed" in here.stdout
    assert there.stdout == here.stdout
    assert json.loads(as_json.stdout)["job_id"] == job_id
    assert none.stdout == ""
    assert (wrong.status, "since: Got 'never'" in wrong.stderr) == (1, True)


def test_who_follows_is_told_of_each_job_and_each_change(stack: Stack) -> None:
    """Also of one that it has shown before."""
    _, secret = Credentials(stack.redis).create("follower")
    command = [sys.executable, "-m", "cli.main", "jobs", "follower", "--follow", "--json"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environ(stack), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with stack.client(secret) as mine:
            slow = background(mine, prompt="a", max_tokens=5_000)
            said = json.loads(process.stdout.readline())
            assert said["job_id"] == slow
            while said["status"] == "pending":
                said = json.loads(process.stdout.readline())
            assert (said["job_id"], said["status"]) == (slow, "in_progress")
            quick = background(mine)
            mine.delete(f"/jobs/{slow}").raise_for_status()
            ends: dict[str, str] = {}
            deadline = time.monotonic() + 60
            while ends != {slow: "cancelled", quick: "completed"}:
                assert time.monotonic() < deadline, ends
                said = json.loads(process.stdout.readline())
                ends |= {said["job_id"]: said["status"]}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_who_follows_is_told_of_the_end_of_a_job_that_is_older_than_the_first_page(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("patient")
    with stack.client(secret) as mine:
        old = background(mine, prompt="a", max_tokens=5_000)
        new = background(mine)
        command = [sys.executable, "-m", "cli.main", "jobs", "patient", "--follow", "--json", "-n", "1"]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environ(stack), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["job_id"] == new
            mine.delete(f"/jobs/{old}").raise_for_status()
            said: dict[str, str] = {}
            while said.get(old) != "cancelled":
                one = json.loads(process.stdout.readline())
                said[one["job_id"]] = one["status"]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

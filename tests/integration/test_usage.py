"""What keys have used by day, exactly, as JSON and as CSV; and what is left of their limits."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import redis

from gateway.access.api_keys import Credentials
from gateway.access.limits import Limits
from gateway.errors import InvalidRequest
from gateway.jobs import ledger
from gateway.jobs.ledger import PICO
from gateway.jobs.record import JobState
from gateway.jobs.store import Ended, JobStore
from gateway.store import keys
from tests.integration.test_limits import finish, make_job, make_key, pass_time, run, usage
from tests.rpc import Client
from tests.stack import Stack, eventually
from web.rpc.stubs import model_pb2 as pb

DAY = timedelta(days=1)
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def guest(stack: Stack, client: httpx.Client) -> Iterator[httpx.Client]:
    """A key without the scope `admin`, with limits."""
    body = {"name": "guest", "requests_per_minute": 5, "tokens_per_minute": 10_000}
    made = client.post("/keys", json=body).json()["data"]
    with stack.client(made["secret"]) as guest:
        guest.headers["X-Key-Id"] = made["id"]
        yield guest


def test_the_days_of_a_report_are_what_the_jobs_have_used(store: JobStore) -> None:
    """Each job counts for the day on which it was made, once, and all days together are the report of the whole."""
    chance, now = random.Random(7), datetime.now(UTC)
    both = [make_key(store).id for _ in range(2)]
    expected: Counter[tuple[str, str, str]] = Counter()
    for _ in range(40):
        key_id, model, made = chance.choice(both), chance.choice("ab"), now - chance.randrange(4) * DAY
        prompt, completion = chance.randrange(1, 50), chance.randrange(1, 50)
        job = replace(make_job(store, Credentials(store.redis).get(key_id)), model=model)
        ended = run(store, replace(job, model="a/b:c.1"), prompt=prompt, tokens=completion)
        finish(store, ended, usage(prompt, completion))
        ended = replace(ended, model=model, created_at=int(1000 * made.timestamp()))
        for _ in range(2):
            store.finalize(Ended(ended, JobState.DONE, usage(prompt, completion)))
        expected[f"{made:%Y-%m-%d}", key_id, model] += prompt + completion
    period = {"start": now - 10 * DAY, "end": now + DAY}
    rows = store.ledger.report(both, **period, by_day=True)
    assert {(row.day, row.key_id, row.model): row.total_tokens for row in rows} == dict(expected)
    assert [row.day for row in rows] == sorted(row.day for row in rows)
    whole = store.ledger.report(both, **period)
    assert ledger.total(whole) == ledger.total(rows)
    assert {row.day for row in whole} == {""}
    (first,) = {row.day for row in store.ledger.report(both, start=now - 3.5 * DAY, end=now - 2.5 * DAY, by_day=True)}
    assert first == f"{now - 3 * DAY:%Y-%m-%d}"


def test_a_report_that_would_be_too_large_is_refused(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(ledger, "MAX_HASHES", 20)
    with pytest.raises(InvalidRequest, match=r"3 keys over 8 days are too much for one report: name a key"):
        store.ledger.report(["a", "b", "c"], start=now - 7 * DAY, end=now)
    monkeypatch.setattr(ledger, "MAX_ROWS", 2)
    store.redis.hset(keys.usage("a", f"{now:%Y-%m-%d}"), mapping={f"00 jobs EUR {name}": 1 for name in "xyz"})
    with pytest.raises(InvalidRequest, match="More than 2 rows"):
        store.ledger.report(["a"], start=now - DAY, end=now + DAY)


def test_what_is_left_is_told_without_taking_any(store: JobStore) -> None:
    limits = Limits(store.redis, store.scripts)
    limited, free = make_key(store, requests=10, tokens=1_000), make_key(store)
    limits.reserve(limited, "a", 300)
    pass_time(store, limited, 20)
    limits.reserve(limited, "b", 100)
    for _ in range(3):
        left = limits.left([limited, free])
        assert set(left) == {limited.id}
        quota = left[limited.id]
        assert (quota.remaining_requests, quota.remaining_tokens) == (8, 600)
        assert 55 < quota.reset_s <= 60
    pass_time(store, limited, 45)
    assert limits.left([limited])[limited.id].remaining_tokens == 900
    pass_time(store, limited, 60)
    quota = limits.left([limited])[limited.id]
    assert (quota.remaining_requests, quota.remaining_tokens, quota.reset_s) == (10, 1_000, 0)


def test_a_key_sees_itself_and_what_it_has_left(stack: Stack, client: httpx.Client, guest: httpx.Client) -> None:
    key_id = guest.headers["X-Key-Id"]
    before = guest.get(f"/keys/{key_id}").json()["data"]
    assert (before["remaining_requests"], before["remaining_tokens"], before["reset_s"]) == (5, 10_000, 0)
    used = guest.post("/models/fake/chat/completions", json=BODY).json()["data"]["usage"]["total_tokens"]
    eventually(lambda: not stack.redis.scard(keys.open_jobs(key_id)), "the job is settled")
    after = guest.get("/keys/guest").json()["data"]
    assert (after["remaining_requests"], after["remaining_tokens"]) == (4, 10_000 - used)
    assert 0 < after["reset_s"] <= 60
    listed = {one["id"]: one for one in client.get("/keys").json()["data"]["keys"]}
    assert listed[key_id]["remaining_requests"] == 4
    own = client.get("/keys/bootstrap").json()["data"]
    assert (own["remaining_requests"], own["remaining_tokens"], own["reset_s"]) == (None, None, None)
    assert listed[own["id"]] == own
    for path in ("/keys", f"/keys/{own['id']}", "/keys/bootstrap", "/keys/nobody"):
        assert guest.get(path).status_code == 403
    assert guest.patch(f"/keys/{key_id}", json={"tokens_per_minute": None}).status_code == 403
    assert guest.post(f"/keys/{key_id}/rotate", json={}).status_code == 403
    assert guest.delete(f"/keys/{key_id}").status_code == 403


def test_days_on_both_faces(stack: Stack, client: httpx.Client, guest: httpx.Client, rpc: Client) -> None:
    key_id = guest.headers["X-Key-Id"]
    guest.post("/models/fake/chat/completions", json=BODY).raise_for_status()
    eventually(lambda: not stack.redis.scard(keys.open_jobs(key_id)), "the job is settled")
    (row,) = guest.get("/usage", params={"by": "day"}).json()["data"]["usage"]
    assert row["day"] in {f"{datetime.now(UTC) - hours:%Y-%m-%d}" for hours in (timedelta(), timedelta(hours=1))}
    assert (row["key_id"], row["model"], row["jobs"]) == (key_id, "fake", 1)
    assert guest.get("/usage").json()["data"]["usage"] == [{**row, "day": None}]
    told = rpc.call("GetUsage", pb.GetUsageRequest(key_id=key_id, by="day")).usage
    assert [(one.day, one.total_tokens) for one in told] == [(row["day"], row["total_tokens"])]
    assert not rpc.call("GetUsage", pb.GetUsageRequest(key_id=key_id)).usage[0].HasField("day")
    for wrong in ({"by": "hour"}, {"format": "xml"}):
        assert client.get("/usage", params=wrong).status_code == 422


def test_as_csv_it_is_exact_and_no_cell_is_a_formula(stack: Stack, client: httpx.Client) -> None:
    name = '=HYPERLINK("http://evil", "x"),+1'
    made = client.post("/keys", json={"name": name}).json()["data"]
    with stack.client(made["secret"]) as theirs:
        theirs.post("/models/fake/chat/completions", json=BODY).raise_for_status()
    eventually(lambda: not stack.redis.scard(keys.open_jobs(made["id"])), "the job is settled")
    tiny = 3 * PICO + 7
    for model in ("@SUM(1)", "plain"):
        fields = {f"05 jobs EUR {model}": 2, f"05 prompt_tokens EUR {model}": 9, f"05 cost EUR {model}": tiny}
        stack.redis.hset(keys.usage(made["id"], f"{datetime.now(UTC) - DAY:%Y-%m-%d}"), mapping=fields)
    asked = {"key": made["id"], "by": "day", "format": "csv"}
    response = client.get("/usage", params=asked)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="usage.csv"'
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    report = client.get("/usage", params={"key": made["id"], "by": "day"}).json()["data"]["usage"]
    assert len(rows) == len(report) == 3
    for row, told in zip(rows, report, strict=True):
        assert (row["day"], row["key_id"], int(row["total_tokens"])) == (told["day"], made["id"], told["total_tokens"])
        assert row["key_name"] == f"'{name}"
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    assert [row["model"] for row in rows] == ["'@SUM(1)", "plain", "fake"]
    assert Decimal(rows[0]["cost"]) == Decimal("3.000000000007")
    with stack.client(made["secret"]) as theirs:
        assert theirs.get("/usage", params=asked).text == response.text
        assert theirs.get("/usage", params={**asked, "key": "bootstrap"}).status_code == 403

"""Keys and usage over HTTP and the command line: made, limited, changed, revoked, and what they used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.store import keys
from tests.stack import REPOSITORY, Stack, eventually, running

PATH = "/models/fake/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
CONFIG = """
[models.fake]
pricing = { input_per_1k_tokens = 0.5, output_per_1k_tokens = 1.5, currency = "EUR" }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("k"), {"fake": {"step_s": 0.005}}, catalog=CONFIG) as stack:
        yield stack


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def make(admin: httpx.Client, **body: Any) -> dict[str, Any]:
    response = admin.post("/keys", json={"name": "k", **body})
    assert response.status_code == 201, response.text
    return dict(response.json()["data"])


def ask(stack: Stack, secret: str, **changes: Any) -> httpx.Response:
    with stack.client(secret) as client:
        return client.post(PATH, json={**BODY, **changes})


def test_a_name_can_be_printed(admin: httpx.Client) -> None:
    for name in ("\x1b]0;title\x07", "two\nlines", "nul\0", "\x9b31m", "tab\t", "end\n"):
        response = admin.post("/keys", json={"name": name})
        assert (response.status_code, "control characters" in response.text) == (422, True), repr(name)
    key = make(admin, name="Zoë's 👩‍💻 = <b>")
    assert admin.patch(f"/keys/{key['id']}", json={"name": "a\nb"}).status_code == 422


def command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **stack.settings.environ()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_secret_is_shown_once_and_kept_as_a_hash(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, name="once")
    secret = key.pop("secret")
    assert secret.startswith(key["prefix"])
    shown = admin.get(f"/keys/{key['id']}").json()["data"]
    assert {name: shown[name] for name in key} == key
    assert shown in admin.get("/keys").json()["data"]["keys"]
    assert ask(stack, secret).status_code == 200
    stored = [name for name in stack.redis.scan_iter() if secret in name]
    for name in stack.redis.scan_iter(_type="hash"):
        stored += [value for value in stack.redis.hgetall(name).values() if secret in value]
    assert stored == []


def test_scopes_decide_who_may_do_what(stack: Stack, admin: httpx.Client) -> None:
    for scopes, may_ask, may_manage in ((["inference"], 200, 403), (["deploy"], 403, 403), (["admin"], 200, 200)):
        secret = make(admin, scopes=scopes)["secret"]
        assert ask(stack, secret).status_code == may_ask
        with stack.client(secret) as client:
            assert client.get("/keys").status_code == may_manage
            assert client.post("/keys", json={"name": "x"}).status_code == {200: 201, 403: 403}[may_manage]


def test_a_key_may_be_bound_to_models(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, models=["smollm2-135m"])
    response = ask(stack, key["secret"])
    assert response.status_code == 403
    assert response.json()["data"]["reason"] == "model_not_allowed"
    assert "it may use smollm2-135m" in response.json()["message"]
    admin.patch(f"/keys/{key['id']}", json={"models": ["fake"]})
    assert ask(stack, key["secret"]).status_code == 200
    assert admin.patch(f"/keys/{key['id']}", json={"models": None}).json()["data"]["models"] == []


def test_a_key_expires(stack: Stack, admin: httpx.Client) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    key = make(admin, expires_at=soon.isoformat())
    assert ask(stack, key["secret"]).status_code == 200
    response = eventually(lambda: (r := ask(stack, key["secret"])).status_code == 401 and r, "the key has expired")
    assert response.json()["data"]["reason"] == "api_key_expired"
    assert admin.get(f"/keys/{key['id']}").json()["data"]["status"] == "expired"
    assert admin.patch(f"/keys/{key['id']}", json={"expires_at": None}).json()["data"]["status"] == "active"
    assert ask(stack, key["secret"]).status_code == 200


def test_revoking_ends_the_keys_requests_and_its_running_jobs_at_once(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin)
    body = {**BODY, "max_tokens": 20_000, "stream": True}
    with stack.client(key["secret"]) as client, client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        next(line for line in lines if line.startswith("data: {"))
        revoked = admin.delete(f"/keys/{key['id']}").json()["data"]
        assert (revoked["status"], revoked["cancelled_jobs"]) == ("revoked", 1)
        assert admin.delete(f"/keys/{key['id']}").json()["data"]["revoked_at"] == revoked["revoked_at"]
        assert any('"finish_reason":"cancelled"' in line for line in lines)
    response = ask(stack, key["secret"])
    assert (response.status_code, response.json()["data"]["reason"]) == (401, "api_key_revoked")
    assert admin.patch(f"/keys/{key['id']}", json={"name": "x"}).status_code == 409
    rows = admin.get("/usage", params={"key": key["id"]}).json()["data"]["usage"]
    assert rows[0]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "models": "fake"}, "models"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "tokens_per_minute": 1.5}, "tokens_per_minute"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "expires_at": "2020-01-01"}, "expires_at"),
        ({"name": "x", "expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at"),
        ({"name": "x", "expires_at": 5}, "expires_at"),
        ({"name": "x", "colour": 1}, "colour"),
    ],
)
def test_a_wrong_key_is_refused_with_the_field(admin: httpx.Client, body: dict[str, Any], field: str) -> None:
    response = admin.post("/keys", json=body)
    assert response.status_code == 422
    assert field in response.json()["message"]


def test_the_highest_limits_can_be_read_again(admin: httpx.Client) -> None:
    highest = {"requests_per_minute": 10**9, "tokens_per_minute": 10**12}
    made = admin.post("/keys", json={"name": "k", "expires_at": "9999-12-31T23:59:59Z", **highest})
    assert made.status_code == 201, made.text
    found = {key["id"]: key for key in admin.get("/keys").json()["data"]["keys"]}[made.json()["data"]["id"]]
    assert {name: found[name] for name in highest} == highest


def test_keys_that_do_not_exist_are_not_found(admin: httpx.Client) -> None:
    for response in (
        admin.get("/keys/none"),
        admin.patch("/keys/none", json={"name": "x"}),
        admin.delete("/keys/none"),
    ):
        assert (response.status_code, response.json()["data"]["reason"]) == (404, "key_not_found")
    assert admin.get("/usage", params={"key": "none"}).status_code == 404


def test_headers_say_what_is_left_and_429_when_it_fits_again(stack: Stack, admin: httpx.Client) -> None:
    secret = make(admin, requests_per_minute=2, tokens_per_minute=100)["secret"]
    first = ask(stack, secret)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "100"
    assert float(first.headers["x-ratelimit-reset-tokens"].removesuffix("s")) <= 60
    second = ask(stack, secret, stream=True)
    used = first.json()["data"]["usage"]["total_tokens"]
    reserved = 100 - used - int(second.headers["x-ratelimit-remaining-tokens"])
    assert reserved == 5 + 4 + -(-len("user") // 3) + -(-len("hello there") // 3)
    third = ask(stack, secret)
    assert (third.status_code, third.json()["data"]["reason"]) == (429, "rate_limit_requests")
    assert 1 <= int(third.headers["Retry-After"]) <= 60
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    with stack.client(secret) as client:
        openai = client.post("/v1/chat/completions", json={**BODY, "model": "fake"})
    assert (openai.status_code, openai.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert 1 <= int(openai.headers["Retry-After"]) <= 60
    error = openai.json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
    too_much = ask(stack, secret, max_tokens=100)
    assert (too_much.status_code, too_much.json()["data"]["reason"]) == (422, "request_exceeds_limit")
    unlimited = ask(stack, make(admin)["secret"])
    assert [name for name in unlimited.headers if name.startswith("x-ratelimit")] == []


def test_tokens_that_were_not_used_come_back(stack: Stack, admin: httpx.Client) -> None:
    """The reservation of one answer is nearly all there is: the second fits only because the first was short."""
    key = make(admin, tokens_per_minute=1_100)
    body = {**BODY, "max_tokens": 1_000, "stream": True}
    with stack.client(key["secret"]) as client:
        with client.stream("POST", PATH, json=body) as response:
            assert ask(stack, key["secret"], max_tokens=1_000).json()["data"]["reason"] == "rate_limit_tokens"
            job_id = response.headers["X-Job-Id"]
            assert client.delete(f"/jobs/{job_id}").status_code == 200
            list(response.iter_lines())
        job = client.get(f"/jobs/{job_id}").json()["data"]
        eventually(lambda: not stack.redis.scard(keys.open_jobs(key["id"])), "the job is settled")
        assert client.get("/usage").json()["data"]["total"]["total_tokens"] == job["usage"]["total_tokens"]
        second = client.post(PATH, json={**BODY, "max_tokens": 900}, headers={"Prefer": "respond-async"})
        assert second.status_code == 202
        left = 1_100 - job["usage"]["total_tokens"] - 900 - 10
        assert int(second.headers["x-ratelimit-remaining-tokens"]) == left
        client.delete(f"/jobs/{second.headers['X-Job-Id']}")


def test_usage_is_what_the_jobs_used_at_the_catalogs_price(stack: Stack, admin: httpx.Client) -> None:
    key = make(admin, name="paying")
    sums = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for tokens in (3, 4):
        usage = ask(stack, key["secret"], max_tokens=tokens).json()["data"]["usage"]
        sums = {name: sums[name] + usage[name] for name in sums}
    with stack.client(key["secret"]) as client:
        report = client.get("/usage").json()["data"]
        assert client.get("/usage", params={"key": key["id"]}).json()["data"]["usage"] == report["usage"]
        other = make(admin)["id"]
        assert client.get("/usage", params={"key": other}).status_code == 403
        assert client.get("/usage", params={"model": "smollm2-135m"}).json()["data"]["usage"] == []
        before = {"to": (datetime.now(UTC) - timedelta(hours=2)).isoformat()}
        assert client.get("/usage", params=before).json()["data"]["total"]["jobs"] == 0
    cost = (sums["prompt_tokens"] * 0.5 + sums["completion_tokens"] * 1.5) / 1000
    assert report["usage"] == [
        {
            "day": None,
            "key_id": key["id"],
            "key_name": "paying",
            "model": "fake",
            "jobs": 2,
            **sums,
            "cost": pytest.approx(cost),
            "currency": "EUR",
        }
    ]
    assert report["total"] == {"jobs": 2, **sums, "cost": {"EUR": pytest.approx(cost)}}
    everything = admin.get("/usage").json()["data"]["usage"]
    assert report["usage"][0] in everything
    assert len({entry["key_id"] for entry in everything}) > 1


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2020-01-01"},
        {"to": "0001-01-01"},
        {"x": "1"},
    ],
)
def test_a_wrong_period_is_refused(admin: httpx.Client, query: dict[str, str]) -> None:
    response = admin.get("/usage", params=query)
    assert response.status_code == 422
    assert "from" in response.json()["message"]


def test_the_command_line_manages_keys_too(stack: Stack, admin: httpx.Client) -> None:
    made = command(
        stack, "key", "create", "cli", "--model", "fake", "--requests-per-minute", "2", "--expires", "90d"
    ).stdout.strip()
    prefix = made[:7]
    shown = command(stack, "key", "show", prefix).stdout
    for part in ("cli", "fake", "inference", "2\n", "no limit", "active", datetime.now(UTC).strftime("%Y")):
        assert part in shown
    assert ask(stack, made).status_code == 200
    assert (
        "requests_per_minute  no limit" in command(stack, "key", "update", prefix, "--requests-per-minute", "0").stdout
    )
    assert "never" in command(stack, "key", "update", prefix, "--expires", "never", "--all-models").stdout
    assert "x-ratelimit-limit-requests" not in ask(stack, made).headers
    usage = command(stack, "usage", "--key", prefix).stdout.splitlines()
    assert usage[0].split()[:3] == ["cli", "fake", "2"]
    assert usage[-1].startswith("total")
    by_day = command(stack, "usage", "--key", prefix, "--by-day").stdout.splitlines()
    assert by_day[0].split()[1:4] == ["cli", "fake", "2"]
    assert datetime.fromisoformat(by_day[0].split()[0])
    for arguments in (
        ("create", "x", "--expires", "soon"),
        ("update", prefix),
    ):
        failed = command(stack, "key", *arguments)
        assert failed.returncode != 0
        assert "Traceback" not in failed.stderr
    assert "revoked cli" in command(stack, "key", "revoke", prefix).stdout
    assert ask(stack, made).status_code == 401
    assert "revoked" in next(
        line for line in command(stack, "key", "list").stdout.splitlines() if line.endswith(" cli")
    )

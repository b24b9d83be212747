"""What the dashboard's pages follow: answers of the API as server-sent events, each again when it has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.store import keys
from tests.pages import blocks
from tests.stack import KEY, Stack, chat, eventually, running, stopped
from web.http.auth import DASHBOARD_HEADER

SHARE = 24
ANSWERED = 200


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("s")
    with running(folder, {"fake": {"step_s": 0.02}}, key_max_streams=SHARE, root_path="/llm") as stack:
        yield stack


class Watched:
    """One stream: what each look answered last, and its events and comments so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.response = response
        self._lines = response.iter_lines()

    def event(self) -> dict[str, Any]:
        """The next event's object. Raises: StopIteration at the end of the stream."""
        while not (line := next(self._lines)).startswith("data: "):
            assert line in ("", ": ping", "retry: 200", "event: error"), line
        found: dict[str, Any] = json.loads(line.removeprefix("data: "))
        self.answers.update(found)
        return found

    def comment(self) -> None:
        """Read until nothing has changed for a moment."""
        while next(self._lines) != ": ping":
            continue

    def ends(self) -> bool:
        """Read to the end of the stream."""
        return all(line is not None for line in self._lines)

    def data(self, look: str) -> dict[str, Any]:
        found: dict[str, Any] = self.answers[look]["body"]["data"]
        return found


@contextmanager
def watched(stack: Stack, *looks: str, key: str = KEY, **headers: str) -> Iterator[Watched]:
    with (
        stack.client(key) as client,
        client.stream("GET", "/dashboard/watch", params={"look": looks}, headers=headers) as response,
    ):
        assert response.headers["Content-Type"].startswith("text/event-stream")
        seen = Watched(response)  # kept up to here: httpx closes a connection whose lines nobody has any more
        yield seen


def refused(stack: Stack, *looks: str, key: str = KEY) -> httpx.Response:
    with stack.client(key) as client:
        return client.get("/dashboard/watch", params={"look": looks})


def test_all_answers_come_first_and_then_those_that_have_changed(stack: Stack) -> None:
    with watched(stack, "/jobs?limit=5", "/keys", "/health/ready") as seen:
        assert set(seen.event()) == {"/jobs?limit=5", "/keys", "/health/ready"}
        assert {answer["status"] for answer in seen.answers.values()} == {ANSWERED}
        before = seen.answers["/keys"]
        stream = chat(stack, max_tokens=40)
        eventually(lambda: stream.job_id, "it has begun")
        while stream.job_id not in [job["job_id"] for job in seen.data("/jobs?limit=5")["jobs"]]:
            assert "/keys" not in seen.event() or seen.answers["/keys"] != before
        while seen.data("/jobs?limit=5")["jobs"][0]["status"] != "completed":
            seen.event()
        assert len(seen.data("/jobs?limit=5")["jobs"]) <= 5


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_command_of_the_page(stack: Stack) -> None:
    (block,) = [block for block in blocks("docs/dashboard.md") if block.run_by]
    command = block.text.replace("http://localhost:8000", stack.url)
    environ = {**os.environ, "KEY": KEY}
    with subprocess.Popen(["bash", "-c", command], env=environ, stdout=subprocess.PIPE, text=True) as process:
        found = json.loads(process.stdout.readline().removeprefix("data: ")) if process.stdout else {}
        process.kill()
    assert {path: answer["status"] for path, answer in found.items()} == {"/queue": ANSWERED, "/nodes": ANSWERED}


def test_what_does_not_change_is_said_once(stack: Stack) -> None:
    with watched(stack, "/audit", "/keys/nobody", "/llm/audit") as seen:
        assert seen.event()["/keys/nobody"]["status"] == 404
        assert seen.answers["/llm/audit"] == seen.answers["/audit"]
        for _ in range(3):
            seen.comment()
        with stack.client() as client:
            client.post("/keys", json={"name": "one more"})
        assert set(seen.event()) == {"/audit", "/llm/audit"}


def test_an_answer_is_what_the_same_request_gets_by_itself(stack: Stack) -> None:
    look = "/models/local/deployments?limit=3&unknown=%C3%A9"
    with watched(stack, look, "/nodes/n1", "/nowhere") as seen, stack.client() as client:
        seen.event()
        for path, answer in seen.answers.items():
            response = client.get(path, headers={"X-Request-Id": seen.response.headers["X-Request-Id"]})
            assert (answer["status"], set(answer["body"])) == (response.status_code, set(response.json()))
            if path != "/nodes/n1":  # it says when it was last seen
                assert answer["body"] == response.json()


def test_looks_are_neither_counted_nor_logged_as_requests(stack: Stack) -> None:
    def replies() -> int:
        found = stack.redis.hgetall(keys.METRICS)
        return sum(int(number) for name, number in found.items() if name.startswith("errors"))

    with stack.client() as client, watched(stack, "/nobody-asks", "/jobs/no-job") as seen:
        seen.event()
        client.get("/asked-by-itself")
        before = eventually(replies, "what was asked for is counted")
        for _ in range(4):
            seen.comment()
        assert replies() == before
    log = (stack.folder / "logs" / "web.log").read_text()
    assert "nobody-asks" not in log


def test_a_key_sees_what_it_may(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("small")
    with watched(stack, "/nodes", "/jobs", key=secret) as seen:
        seen.event()
        assert {path: answer["status"] for path, answer in seen.answers.items()} == {"/nodes": 403, "/jobs": 200}
        assert seen.data("/jobs") == {"jobs": [], "next_cursor": None}


def test_it_ends_once_the_key_is_revoked(stack: Stack) -> None:
    made, secret = Credentials(stack.redis).create("short")
    with watched(stack, "/jobs", key=secret) as seen:
        seen.event()
        with stack.client() as client:
            assert client.delete(f"/keys/{made.id}").status_code == 200
        assert seen.event()["/jobs"]["status"] == 401
        assert seen.ends()


def test_it_ends_once_the_session_is_over(stack: Stack) -> None:
    with stack.client("") as page:
        page.headers[DASHBOARD_HEADER] = "1"
        page.post("/llm/dashboard/session", json={"key": KEY}).raise_for_status()
        with page.stream("GET", "/llm/dashboard/watch", params={"look": "/queue"}) as response:
            seen = Watched(response)
            assert seen.event()["/queue"]["status"] == ANSWERED
            page.delete("/llm/dashboard/session").raise_for_status()
            assert seen.event()["/queue"]["status"] == 401
            assert seen.ends()


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [""],
        ["queue"],
        ["//queue"],
        ["http://127.0.0.1/queue"],
        ["/queue\nX: y"],
        ["/queue x"],
        ["/jobs?model=é"],
        ["/queue", "*"],
        [f"/jobs?limit={i}" for i in range(1, 10)],
    ],
)
def test_looks_that_are_no_paths_or_too_many_are_refused(stack: Stack, looks: list[str]) -> None:
    response = refused(stack, *looks)
    assert response.status_code == 422
    assert "'look' is a path of this API" in response.json()["message"]


@pytest.mark.parametrize(
    "look",
    ["/dashboard/watch?look=/queue", "/dashboard/watch", "/dashboard/app.js", "/metrics", "/docs", "/jobs/x/events"],
)
def test_what_is_no_json_or_no_thing_is_an_answer_of_its_own(stack: Stack, look: str) -> None:
    with watched(stack, look, "/queue") as seen:
        seen.event()
        assert seen.answers[look]["status"] in (404, 422)
        assert seen.answers["/queue"]["status"] == ANSWERED


@pytest.mark.parametrize(
    "look", ["/%00", "/jobs?status=%ff", "/jobs?cursor=%00&limit=x", "/..", "/jobs/%2e%2e/x", "/?" * 200]
)
def test_odd_paths_do_no_harm(stack: Stack, look: str) -> None:
    with watched(stack, look, "/queue") as seen:
        seen.event()
        assert seen.answers[look]["status"] < 500
        assert seen.answers["/queue"]["status"] == ANSWERED


def test_events_of_a_job_are_not_watched_but_let_go(stack: Stack) -> None:
    stream = chat(stack, max_tokens=3)
    stream.join()
    with watched(stack, f"/jobs/{stream.job_id}/events") as seen:
        seen.event()
        assert "does not answer with JSON" in seen.answers[f"/jobs/{stream.job_id}/events"]["body"]["message"]


def test_nobody_watches_without_a_key(stack: Stack) -> None:
    assert refused(stack, "/queue", key="").status_code == 401


def test_a_page_of_another_origin_can_not_use_the_cookie(stack: Stack) -> None:
    with stack.client("") as page:
        page.post("/llm/dashboard/session", json={"key": KEY}, headers={DASHBOARD_HEADER: "1"}).raise_for_status()
        assert page.get("/llm/dashboard/watch", params={"look": "/queue"}).status_code == 401


def test_streams_count_among_the_open_requests_of_a_key_until_their_clients_leave(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("many")
    with ExitStack() as streams:
        for _ in range(SHARE):  # each has one place, whatever it looks at
            seen = streams.enter_context(watched(stack, "/jobs", "/models", key=secret)).event()
            assert {answer["status"] for answer in seen.values()} == {ANSWERED}
        assert not _free(stack, secret)
    eventually(lambda: _free(stack, secret), "their places are free")


def _free(stack: Stack, secret: str) -> bool:
    with stack.client(secret) as client:
        return client.get("/jobs").status_code == ANSWERED


def test_it_goes_on_where_redis_stands_still_for_a_while(stack: Stack) -> None:
    with watched(stack, "/queue", "/health/live") as seen:
        seen.event()
        with stopped(stack.processes["redis"].pid):
            while seen.answers["/queue"]["status"] == ANSWERED:
                seen.event()
            assert seen.answers["/queue"]["status"] == 503
        while seen.answers["/queue"]["status"] != ANSWERED:
            seen.event()


def test_a_client_that_leaves_ends_it(stack: Stack) -> None:
    """Also one that is silent for long."""
    _, secret = Credentials(stack.redis).create("left")
    with stack.client(secret) as client:
        for _ in range(2 * SHARE):
            with client.stream("GET", "/dashboard/watch", params={"look": "/health/live"}) as response:
                assert next(response.iter_lines()).startswith("data: ")
            eventually(lambda: _free(stack, secret), "its place is free")


def test_a_server_that_stops_asks_to_come_again(stack: Stack) -> None:
    with watched(stack, "/queue") as seen:
        seen.event()
        stack.kill("web", signal.SIGTERM)
        with pytest.raises(StopIteration):
            while True:
                seen.event()
    stack.start("web")
    eventually(stack._ready, "the next one answers")

"""The page Jobs in a real browser, on a real gateway: the list that follows what happens, and a job's history."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from gateway.access.api_keys import Credentials
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue
from gateway.queue.names import Priority
from gateway.store.codec import dumps
from tests.browser import dashboard, violations
from tests.integration.test_routing import MODELS, handed_over
from tests.stack import KEY, Stack, Stream, chat, eventually, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, settings = tmp_path_factory.mktemp("s"), {"root_path": "/llm", "max_batch_size": 4, "preemption": True}
    with running(folder, {"fake": {"step_s": 0.05}}, models_json=dumps(MODELS), **settings) as stack:
        yield stack


@contextmanager
def jobs(browser: Browser, stack: Stack, query: str = "", **options: Any) -> Iterator[Page]:
    with dashboard(browser, f"{stack.url}/llm/#/jobs{query}", **options) as page:
        yield page


def begun(stream: Stream) -> Stream:
    eventually(lambda: len(stream.ids) > 4, "it runs")
    return stream


def answered(stack: Stack, key: str, **body: Any) -> str:
    """The id of a chat that has been asked with a key, and answered."""
    with stack.client(key) as client:
        asked = {"messages": [{"role": "user", "content": "hello"}], **body}
        response = client.post("/models/fake/chat/completions", json=asked)
        assert response.status_code == 200, response.text
        return response.headers["X-Job-Id"]


def row(page: Page, job_id: str) -> Locator:
    return page.get_by_role("row", name=job_id)


def test_the_list_follows_what_happens_until_it_is_paused(browser: Browser, stack: Stack) -> None:
    with jobs(browser, stack) as page:
        first = begun(chat(stack, max_tokens=2000))
        expect(row(page, first.job_id)).to_contain_text("in progress")
        took = row(page, first.job_id).locator("td.figure").nth(1)
        expect(took).not_to_have_text(took.inner_text())  # it goes on, though nothing else changes
        row(page, first.job_id).get_by_role("button", name="Cancel").click()
        expect(row(page, first.job_id)).to_contain_text("cancelled")
        assert first.join().finish_reason == "cancelled"
        page.get_by_role("button", name="Pause").click()
        second = chat(stack, max_tokens=50).join()
        expect(row(page, second.job_id)).to_be_hidden()
        page.get_by_role("button", name="Go on").click()
        expect(row(page, second.job_id)).to_contain_text("completed")
        expect(row(page, second.job_id)).to_contain_text("1 + 50")


def test_who_has_left_the_page_follows_it_no_more(browser: Browser, stack: Stack) -> None:
    """Also where what was asked for there is answered only then."""
    stream = begun(chat(stack, max_tokens=2000))
    held: list[Route] = []
    asked: list[str] = []

    def hold(route: Route) -> None:
        held.append(route)

    with jobs(browser, stack) as page:
        page.route("**/jobs/*", hold)
        row(page, stream.job_id).get_by_role("button", name="Cancel").click()
        page.get_by_role("link", name="Keys and usage").click()
        expect(row(page, "bootstrap").first).to_be_visible()
        page.on("request", lambda request: asked.append(request.url))
        with page.expect_response("**/jobs/*"):
            held[0].continue_()
        page.wait_for_timeout(1000)
        assert [url for url in asked if "%2Fjobs" in url] == []
    assert stream.join().finish_reason == "cancelled"


def test_what_is_asked_again_runs_for_who_asks(browser: Browser, stack: Stack) -> None:
    owner, secret = Credentials(stack.redis).create("owner")
    job_id = answered(stack, secret, max_tokens=7)
    with jobs(browser, stack) as page:
        expect(row(page, job_id)).to_contain_text("owner")
        row(page, job_id).get_by_role("button", name="Ask again").click()
        again = page.get_by_role("status").get_by_role("link")
        expect(again).to_be_visible()
        again.click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text(job_id)
        expect(page.locator(".actions")).to_contain_text("completed")
        expect(page.get_by_role("definition").filter(has_text=re.compile("^7$"))).to_have_count(1)
        made = page.get_by_role("heading", level=1).inner_text()
    with stack.client() as client:
        assert client.get(f"/jobs/{made}").json()["data"]["key_id"] != owner.id


def test_filters_are_in_the_address_and_survive_a_reload(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("filtered")
    done = answered(stack, secret, max_tokens=2)
    with stack.client(secret) as client:
        asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2000}
        made = client.post("/models/fake/chat/completions", json=asked, headers={"Prefer": "respond-async"})
        stopped = made.json()["data"]["job_id"]
        client.delete(f"/jobs/{stopped}").raise_for_status()
    with jobs(browser, stack) as page:
        page.get_by_label("Key").fill("filt")
        expect(row(page, chat(stack, max_tokens=2).join().job_id)).to_be_visible()
        expect(page.get_by_label("Key")).to_have_value("filt")
        page.get_by_label("Key").fill("filtered")
        page.get_by_label("Key").press("Enter")
        expect(page.get_by_role("row")).to_have_count(3)
        page.get_by_label("Status").select_option("cancelled")
        expect(page.get_by_role("row")).to_have_count(2)
        assert "status=cancelled" in page.url
        page.reload()
        expect(row(page, stopped)).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(2)
        expect(page.get_by_label("Status")).to_have_value("cancelled")
        page.go_back()
        expect(row(page, done)).to_be_visible()
        page.get_by_label("Made since").fill("2100-01-01T00:00")
        page.get_by_label("Made since").press("Enter")
        expect(page.get_by_text("There are no such jobs.")).to_be_visible()
        page.get_by_label("Key").fill("nobody-is-called-so")
        page.get_by_label("Key").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("There is no key with the id or name")


def test_older_jobs_are_a_page_away(browser: Browser, stack: Stack) -> None:
    owner, secret = Credentials(stack.redis).create("many")
    for _ in range(53):
        answered(stack, secret, max_tokens=1)
    with jobs(browser, stack, f"?key={owner.id}") as page:
        expect(page.get_by_role("row")).to_have_count(51)
        page.get_by_role("link", name="Older").click()
        expect(page.get_by_role("row")).to_have_count(4)
        page.reload()
        expect(page.get_by_role("row")).to_have_count(4)
        page.get_by_role("link", name="Newest").click()
        expect(page.get_by_role("row")).to_have_count(51)


def test_a_key_sees_its_own_jobs(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest")
    theirs, own = answered(stack, KEY, max_tokens=2), answered(stack, secret, max_tokens=2)
    with jobs(browser, stack, key=secret) as page:
        expect(row(page, own)).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(2)
        expect(page.get_by_label("Key")).to_have_count(0)
    with jobs(browser, stack, f"/{theirs}", key=secret) as page:
        expect(page.get_by_role("alert")).to_contain_text("There is no job")


def test_the_death_of_a_worker_is_seen_in_the_picture(browser: Browser, stack: Stack) -> None:
    stream = begun(chat(stack, max_tokens=200))
    with jobs(browser, stack, f"/{stream.job_id}") as page:
        bars = page.locator(".canvas .piece")
        expect(page.locator(".canvas .piece.decoding")).to_have_count(1)
        expect(page.locator(".history .lanes span")).to_have_text(["In line", stack.replica().incarnation])
        before = page.locator(".canvas .decoding title").text_content()
        expect(page.locator(".canvas .decoding title")).not_to_have_text(before or "")
        os.kill(stack.replica().pid, signal.SIGKILL)
        expect(page.locator(".history .mark.lost")).to_have_count(1)
        expect(page.locator(".canvas .piece.gap")).to_have_count(1)
        expect(page.locator(".canvas .piece.decoding")).to_have_count(2)
        expect(page.locator(".history .lanes span")).to_have_count(3)
        stream.join()
        expect(page.locator(".history .mark.completed")).to_have_count(1)
        with stack.client() as client:
            found = client.get(f"/jobs/{stream.job_id}/timeline").json()["data"]
        picture = page.get_by_role("img", name="completed after")
        replayed = f"{found['replayed_tokens']} tokens were replayed"
        expect(picture).to_have_accessible_name(re.compile(rf"claimed 2 times, stood still for .*{replayed}"))
        entries = page.get_by_role("list", name="What has happened").get_by_role("listitem")
        expect(entries.filter(has_text="The worker was lost, behind")).to_have_count(1)
        expect(entries.filter(has_text=f"behind {found['replayed_tokens']} tokens that it replays")).to_have_count(1)
        expect(bars.last).to_have_class("piece decoding")
        entries.last.get_by_role("button").press("Enter")
        expect(page.locator(".history .chosen")).to_have_count(1)


def test_who_gives_way_is_seen_to_wait_and_to_go_on(browser: Browser, stack: Stack) -> None:
    background = [begun(chat(stack, max_tokens=150, priority="background")) for _ in range(4)]
    urgent = chat(stack, max_tokens=20)
    with stack.client() as client:

        def preempted() -> str:
            found = [client.get(f"/jobs/{one.job_id}/timeline").json()["data"] for one in background]
            causes = {job["job_id"]: [entry.get("cause") for entry in job["timeline"]] for job in found}
            return next((job_id for job_id, all_of_it in causes.items() if "preempted" in all_of_it), "")

        job_id = eventually(preempted, "one gave way")
    with jobs(browser, stack, f"/{job_id}") as page:
        expect(page.locator(".history .mark.gave_way").first).to_be_attached()
        expect(page.locator(".canvas .piece.gap").first).to_be_attached()
        for stream in (urgent, *background):
            stream.join()
        expect(page.locator(".history .mark.completed")).to_have_count(1)
        expect(page.locator(".history .lanes span")).to_have_text(["In line", stack.replica().incarnation])
        expect(page.locator(".history .resumes text").first).to_have_text(re.compile(r"behind \d+ tokens"))
        expect(page.locator(".canvas .piece.silent")).to_have_count(0)


def test_a_job_that_went_to_another_model(browser: Browser, stack: Stack) -> None:
    job = handed_over(stack.store, mode="continue")
    enqueue(make_celery(stack.settings), job.id, queue_key="fake", priority=Priority.RECOVERED)
    with jobs(browser, stack, f"/{job.id}") as page:
        expect(page.locator(".history .mark.completed")).to_have_count(1)
        expect(page.locator(".history .lanes span")).to_have_text(["In line", "nobody", stack.replica().incarnation])
        expect(page.locator(".history .mark.handed_over")).to_have_count(1)
        expect(page.locator(".history .mark.lost")).to_have_count(1)
        entries = page.get_by_role("list", name="What has happened").get_by_role("listitem")
        expect(entries.filter(has_text="Handed over to fake")).to_have_count(1)


def test_what_can_not_be_done_is_said_and_stays(browser: Browser, stack: Stack) -> None:
    stream = chat(stack, max_tokens=3, store=False).join()
    with jobs(browser, stack) as page:
        row(page, stream.job_id).get_by_role("button", name="Ask again").click()
        expect(page.get_by_role("alert")).to_contain_text("its prompt was not kept")
        expect(row(page, chat(stack, max_tokens=2).join().job_id)).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("its prompt was not kept")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(browser: Browser, stack: Stack, scheme: str) -> None:
    stream = chat(stack, max_tokens=20).join()
    with jobs(browser, stack, color_scheme=scheme) as page:
        expect(row(page, stream.job_id)).to_be_visible()
        assert violations(page) == []
        page.get_by_role("link", name=stream.job_id).click()
        expect(page.locator(".history .mark.completed")).to_have_count(1)
        assert violations(page) == []
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="历程")).to_be_visible()
        assert violations(page) == []

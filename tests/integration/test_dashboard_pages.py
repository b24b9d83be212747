"""The pages in a real browser, on a real gateway: the main job of each, and no barrier that axe-core finds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.access.api_keys import Credentials
from gateway.store import keys
from tests.browser import dashboard, violations
from tests.stack import KEY, PATIENCE_S, Stack, chat, eventually, running

pytestmark = pytest.mark.slow
MODELS = {"fake": {"step_s": 0.05}, "second": {"step_s": 0.05}}
CATALOG = '[models.second]\ncapabilities = ["chat"]\nengine = "fake"\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), MODELS, catalog=CATALOG, root_path="/llm") as stack:
        yield stack


def test_signing_in_by_keyboard_and_out_again(browser: Browser, stack: Stack) -> None:
    with dashboard(browser, f"{stack.url}/llm", key="") as page:
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type("hr-wrong-wrong\n")
        expect(page.get_by_role("alert")).to_have_text("This API key is unknown. Make one with 'headrace key create'.")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("row", name="fake active")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        page.reload()
        expect(page.get_by_label("API key")).to_be_visible()


def test_the_overview_follows_what_happens(browser: Browser, stack: Stack) -> None:
    with dashboard(browser, f"{stack.url}/llm/") as page:
        row = page.get_by_role("row", name="fake active")
        expect(row).to_contain_text("0 / 32")
        streams = [chat(stack, max_tokens=2000) for _ in range(3)]
        expect(row).to_contain_text("3 / 32")
        expect(page.get_by_role("row", name="n1.cpu0 fake").first).to_contain_text("MB /")
        expect(page.get_by_role("row", name="cpu0 healthy").last).to_contain_text("GB")
        expect(page.locator("canvas")).to_have_count(4)
        with stack.client() as client:
            for stream in streams:
                client.delete(f"/jobs/{stream.job_id}")
        expect(row).to_contain_text("0 / 32")


@pytest.mark.parametrize(
    ("place", "shown"),
    [("overview", "fake active"), ("deployments", "fake"), ("jobs", "completed"), ("keys", "bootstrap")],
)
def test_what_a_page_shows_comes_over_one_stream(browser: Browser, stack: Stack, place: str, shown: str) -> None:
    asked: list[str] = []
    chat(stack, max_tokens=2).join()
    with dashboard(browser, f"{stack.url}/llm/#/{place}") as page:
        expect(page.get_by_role("row", name=shown).first).to_be_visible()
        page.on("request", lambda request: asked.append(request.url) if request.method == "GET" else None)
        page.wait_for_timeout(5000)
        assert len(asked) == len(set(asked)), "it is told, and asks for nothing again"
        stack.kill("web", signal.SIGTERM)
        stack.start("web")
        with page.expect_request("**/dashboard/watch?*"):
            pass
        eventually(stack._ready, "it is back")
        expect(page.get_by_role("row", name=shown).first).to_be_visible()


def test_the_overview_tells_of_the_last_hour(browser: Browser, stack: Stack) -> None:
    """What happened before anybody looked."""
    eventually(lambda: stack.redis.llen(keys.HISTORY), "the keeper has noted a point")
    stream = chat(stack, max_tokens=2000)
    eventually(lambda: stream.job_id, "it was taken")
    with stack.client() as client:
        client.delete(f"/jobs/{stream.job_id}")
        assert client.get("/models/none").status_code == 404
    stream.join()
    with dashboard(browser, f"{stack.url}/llm/") as page:
        expect(page.get_by_role("row", name="Answered with 404 model_not_found")).to_be_visible()
        expect(page.get_by_role("row", name="Jobs: cancelled")).to_be_visible()
        expect(page.get_by_role("img", name="Each minute: now")).to_be_visible()


def test_the_overview_says_what_needs_a_look(browser: Browser, stack: Stack) -> None:
    with dashboard(browser, f"{stack.url}/llm/") as page:
        expect(page.get_by_role("row", name="fake active")).to_be_visible()
        stack.kill("web")
        expect(page.locator(".stale")).to_contain_text("the server can't be reached")
        stack.start("web")
        expect(page.locator(".stale")).to_be_empty()
        with stack.client() as client:
            client.post("/nodes/n1/cordon").raise_for_status()
            expect(page.get_by_text("Node n1: cordoned")).to_be_visible()
            client.post("/nodes/n1/uncordon").raise_for_status()
            client.post("/nodes/n1/cordon", params={"device": "cpu0"}).raise_for_status()
            expect(page.get_by_text("Device n1.cpu0: cordoned")).to_be_visible()
            expect(page.get_by_role("row", name="cpu0 cordoned")).to_be_visible()
            client.post("/nodes/n1/uncordon", params={"device": "cpu0"}).raise_for_status()
        expect(page.get_by_text("n1.cpu0: cordoned")).to_be_hidden()


def test_a_key_without_the_scope_is_told_so(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest")
    with dashboard(browser, f"{stack.url}/llm/", key=secret) as page:
        expect(page.get_by_text("This page needs a key with the scope deploy; yours has inference.")).to_be_visible()


MARKUP = "<img src=x onerror=document.body.id='marked'>"


@pytest.mark.parametrize(
    "place", ["keys", "jobs", "deployments", "playground", "overview", "jobs/{}", "jobs?model={}", "{}"]
)
def test_markup_is_a_text_like_any_other(browser: Browser, stack: Stack, place: str) -> None:
    """In names, in messages, and in an address that somebody has sent."""
    Credentials(stack.redis).create(MARKUP)
    with dashboard(browser, f"{stack.url}/llm/#/{place.format(quote(MARKUP))}") as page:
        if place == "playground":
            page.get_by_role("combobox", name="Model", exact=True).select_option("fake")
            ask(page, MARKUP)
        if place in ("keys", "playground", "jobs/{}"):
            expect(page.get_by_text(MARKUP).first).to_be_visible()
        expect(page.locator("main")).not_to_be_empty()
        assert page.locator("img[onerror], img[src=x]").count() == 0
        expect(page.locator("body")).not_to_have_id("marked")


def test_who_is_revoked_has_to_sign_in_again(browser: Browser, stack: Stack) -> None:
    credentials = Credentials(stack.redis)
    record, secret = credentials.create("short", ("deploy",))
    with dashboard(browser, f"{stack.url}/llm/", key=secret) as page:
        expect(page.get_by_role("row", name="fake active")).to_be_visible()
        credentials.revoke(record.id)
        expect(page.get_by_role("alert")).to_contain_text("was revoked")
        expect(page.get_by_label("API key")).to_be_visible()


def test_language_and_theme_stay_chosen(browser: Browser, stack: Stack) -> None:
    with dashboard(browser, f"{stack.url}/llm/", color_scheme="dark") as page:
        html = page.locator("html")
        expect(html).to_have_attribute("data-theme", "dark")
        page.get_by_label("Theme").select_option("light")
        page.get_by_role("button", name="中文").click()
        page.reload()
        expect(html).to_have_attribute("data-theme", "light")
        expect(html).to_have_attribute("lang", "zh-CN")
        expect(page.get_by_role("link", name="总览")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(browser: Browser, stack: Stack, scheme: str) -> None:
    with dashboard(browser, f"{stack.url}/llm/", key="", color_scheme=scheme) as page:
        expect(page.get_by_label("API key")).to_be_visible()
        assert violations(page) == []
    with dashboard(browser, f"{stack.url}/llm/", color_scheme=scheme) as page:
        expect(page.get_by_role("row", name="fake active")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("link", name="Playground").click()
        page.get_by_label("max_tokens").fill("5")
        ask(page, "hello")
        expect(page.locator(".state")).to_contain_text("tokens")
        assert violations(page) == []


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def whole(stack: Stack, page: Page) -> str:
    """The text of the last answer as the gateway has it."""
    job_id = page.locator(".state code").last.inner_text()
    with stack.client() as client:
        result = client.get(f"/jobs/{job_id}").json()["data"]["result"]
    return str(result["choices"][0]["message"]["content"])


@contextmanager
def playground(browser: Browser, stack: Stack, **options: Any) -> Iterator[Page]:
    with dashboard(browser, f"{stack.url}/llm/", **options) as page:
        page.get_by_role("link", name="Playground").click()
        page.get_by_role("combobox", name="Model", exact=True).select_option("fake")
        yield page


def test_an_answer_is_streamed_with_its_figures(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("max_tokens").fill("12")
        ask(page, "hello")
        expect(page.locator(".state")).to_contain_text("cut at max_tokens · 1 + 12 tokens")
        expect(page.locator(".answer .text")).to_have_text(whole(stack, page))
        assert len(whole(stack, page).split()) == 12


def test_two_models_answer_side_by_side_and_can_be_stopped(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("Second model").select_option("second")
        page.get_by_label("max_tokens").fill("2000")
        ask(page, "hello")
        for answer in (texts := page.locator(".answer .text")).all():
            expect(answer).not_to_be_empty()
        expect(texts).to_have_count(2)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".state", has_text="stopped")).to_have_count(2)


def test_an_answer_survives_a_reload(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("max_tokens").fill("100")
        ask(page, "hello")
        expect(page.locator(".answer .text")).to_contain_text(re.compile(r"( w\d+){5}"))
        page.reload()
        expect(page.get_by_role("log")).to_contain_text("The page was loaded anew")
        expect(page.locator(".state")).to_contain_text("1 + 100 tokens")
        assert page.locator(".answer .text").text_content() == whole(stack, page)
        page.reload()
        expect(page.locator(".state")).to_contain_text("1 + 100 tokens")


def test_an_answer_survives_the_death_of_its_worker_and_says_so(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("max_tokens").fill("150")
        ask(page, "hello")
        expect(page.locator(".answer .text")).to_contain_text(re.compile(r"( w\d+){5}"))
        os.kill(stack.replica("fake").pid, signal.SIGKILL)
        expect(page.get_by_role("log")).to_contain_text("Another one took over and went on")
        expect(page.locator(".state")).to_contain_text("1 + 150 tokens")
        assert page.locator(".answer .text").text_content() == whole(stack, page)


def test_a_wrong_field_is_told_before_anything_is_sent(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("Tools (JSON list)").fill("[")
        ask(page, "hello")
        expect(page.get_by_role("alert")).to_contain_text("Tools (JSON list):")
        expect(page.get_by_label("Message", exact=True)).to_have_value("hello")
        page.get_by_label("Tools (JSON list)").fill("")
        page.get_by_label("temperature").fill("1000")
        ask(page, "hello")
        expect(page.locator(".answer .bad")).to_contain_text("temperature")


def test_the_request_as_code_can_be_run(browser: Browser, stack: Stack) -> None:
    with playground(browser, stack) as page:
        page.get_by_label("max_tokens").fill("3")
        page.get_by_label("top_k").fill("5")
        page.get_by_label("Message", exact=True).fill("it's")
        page.get_by_role("button", name="As code").click()
        commands = [text.text_content() or "" for text in page.locator("dialog pre").all()]
    environ = {**os.environ, "HEADRACE_API_KEY": KEY}
    for command in (["bash", "-c", commands[0]], [sys.executable, "-c", commands[1]]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert len(re.findall(r" w\d+", done.stdout)) == 3

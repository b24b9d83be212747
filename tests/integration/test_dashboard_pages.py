"""The pages in a real browser, on a real gateway: the main job of each, and no barrier that axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from gateway.access.api_keys import Credentials
from tests.browser import chromium, dashboard, violations
from tests.stack import KEY, Stack, chat, running

MODELS = {"fake": {"step_s": 0.05}, "with-tools": {"step_s": 0.05}}
CATALOG = '[models.with-tools]\ncapabilities = ["chat", "tool_use"]\nengine = "fake"\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), MODELS, catalog=CATALOG, root_path="/llm") as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


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
        expect(page.locator("canvas")).to_have_count(3)
        with stack.client() as client:
            for stream in streams:
                client.delete(f"/jobs/{stream.job_id}")
        expect(row).to_contain_text("0 / 32")


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
        expect(page.get_by_text("Node n1: cordoned")).to_be_hidden()


def test_a_key_without_the_scope_is_told_so(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest")
    with dashboard(browser, f"{stack.url}/llm/", key=secret) as page:
        expect(page.get_by_text("This page needs a key with the scope deploy; yours has inference.")).to_be_visible()


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

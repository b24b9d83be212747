"""Debian's Chromium, driven by Playwright, and axe-core for what makes a page hard to use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.stack import KEY, PATIENCE_S

expect.set_options(timeout=1000 * PATIENCE_S)
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. Skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def dashboard(browser: Browser, url: str, *, key: str = KEY, **options: Any) -> Iterator[Page]:
    """The dashboard of a gateway, signed in with a key. Nothing may be refused by the page's policy, or thrown."""
    context = browser.new_context(**{"locale": "en", "viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(1000 * PATIENCE_S)
    page, flaws = context.new_page(), []
    page.on("pageerror", lambda error: flaws.append(str(error)))
    page.on("console", lambda message: flaws.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    if key:
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("nav")
    yield page
    assert flaws == []
    context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {node['html']}: {node['failureSummary']}" for one in found for node in one["nodes"]]

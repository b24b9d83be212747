"""The page Keys and usage in a real browser, on a real gateway: a key's life, and what it has used."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gateway.access.api_keys import Credentials
from gateway.store import keys
from tests.browser import dashboard, violations
from tests.stack import Stack, eventually, running

pytestmark = pytest.mark.slow
CATALOG = """
[models.fake]
pricing = { input_per_1k_tokens = 0.5, output_per_1k_tokens = 1.5, currency = "EUR" }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.005}}, catalog=CATALOG) as stack:
        yield stack


@contextmanager
def page_of(browser: Browser, stack: Stack, query: str = "", **options: Any) -> Iterator[Page]:
    with dashboard(browser, f"{stack.url}/#/keys{query}", **options) as page:
        yield page


def ask(stack: Stack, secret: str, **changes: Any) -> httpx.Response:
    with stack.client(secret) as client:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **changes}
        return client.post("/models/fake/chat/completions", json=body)


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name="API keys").get_by_role("row", name=name)


def sums(page: Page) -> Locator:
    return page.get_by_role("region", name="Sums of this time").get_by_role("row")


def choice(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name, exact=True)


def fill(page: Page, fields: dict[str, str]) -> None:
    for label, value in fields.items():
        page.get_by_role("dialog").get_by_label(label).fill(value)


def test_a_key_from_its_making_to_its_end(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    with page_of(browser, stack) as page:
        page.get_by_role("button", name="Make a key").click()
        fill(page, {"Name": "ann"})
        page.keyboard.press("Enter")
        secret = page.get_by_role("dialog", name="The secret").locator("pre").inner_text()
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_text(secret)).to_have_count(0)
        expect(row(page, "ann")).to_contain_text("active")
        assert ask(stack, secret).status_code == 200

        row(page, "ann").get_by_role("button", name="Change").click()
        fill(page, {"Requests a minute": "3", "Tokens a minute": "1000", "Weight": "7"})
        page.get_by_role("dialog").get_by_role("button", name="Change").click()
        expect(row(page, "ann")).to_contain_text("3 of 3 left")
        answers = [ask(stack, secret).status_code for _ in range(5)]
        assert answers == [200, 200, 200, 429, 429]
        expect(row(page, "ann")).to_contain_text("0 of 3 left")
        expect(row(page, "ann").get_by_role("cell", name="7", exact=True)).to_be_visible()

        choice(page, "Key").fill("ann")
        choice(page, "Key").press("Enter")
        with stack.client() as client:
            asked = {"key": "ann"}
            eventually(lambda: client.get("/usage", params=asked).json()["data"]["total"]["jobs"] == 4, "all settled")
            total = client.get("/usage", params=asked).json()["data"]["total"]
        used = sums(page).filter(has_text="fake")
        expect(used.get_by_role("cell").first).to_have_text("4")
        expect(used).to_contain_text(f"{total['completion_tokens']}")
        expect(used).to_contain_text("EUR")
        expect(page.get_by_role("img", name=f"Tokens a day: {total['total_tokens']} in 30 days")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        download.value.save_as(tmp_path / "usage.csv")
        (line,) = csv.DictReader((tmp_path / "usage.csv").read_text().splitlines())
        assert (line["key_name"], line["model"], line["jobs"]) == ("ann", "fake", "4")
        assert float(line["cost"]) == pytest.approx(total["cost"]["EUR"])

        row(page, "ann").get_by_role("button", name="New secret").click()
        page.get_by_label("The present secret ends").select_option("after an hour")
        page.get_by_role("dialog").get_by_role("button", name="New secret").click()
        second = page.get_by_role("dialog", name="The secret").locator("pre").inner_text()
        page.keyboard.press("Escape")
        assert [ask(stack, one).status_code for one in (secret, second)] == [429, 429]

        row(page, "ann").get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Leave").click()
        row(page, "ann").get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(row(page, "ann")).to_have_count(0)
        assert ask(stack, second).status_code == 401
        page.get_by_label("also those that have ended").check()
        expect(row(page, "ann")).to_contain_text("revoked")


def test_what_is_wrong_with_a_form_is_said(browser: Browser, stack: Stack) -> None:
    with page_of(browser, stack) as page:
        page.get_by_role("button", name="Make a key").click()
        fill(page, {"Name": "late", "Expires": "2001-01-01T00:00"})
        page.get_by_role("dialog").get_by_label("inference").uncheck()
        page.get_by_role("dialog").get_by_role("button", name="Make").click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("must be in the future")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("scopes")
        page.get_by_role("button", name="Leave").click()
        expect(row(page, "late")).to_have_count(0)


def test_a_key_sees_itself_and_changes_nothing(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest", requests_per_minute=9)
    ask(stack, secret)
    with page_of(browser, stack, key=secret) as page:
        expect(row(page, "yours")).to_contain_text("8 of 9 left")
        expect(page.get_by_role("region", name="API keys").get_by_role("row")).to_have_count(2)
        expect(page.get_by_role("button", name=re.compile("Make|Change|Revoke|secret"))).to_have_count(0)
        expect(sums(page).filter(has_text="fake")).to_be_visible()


def test_usage_by_day_key_and_model_is_in_the_address(browser: Browser, stack: Stack) -> None:
    """Two keys, two models, three days: as the ledger has them."""
    today = datetime.now(UTC)
    for name, model, ago, tokens in (
        ("one", "a", 0, 100),
        ("one", "b", 1, 20),
        ("two", "a", 2, 3),
        ("two", "b", 60, 5),
    ):
        known = {key.name: key for key in Credentials(stack.redis).list()}
        key = known.get(name) or Credentials(stack.redis).create(name)[0]
        fields = {
            f"00 jobs EUR {model}": 1,
            f"00 completion_tokens EUR {model}": tokens,
            f"00 cost EUR {model}": 10**12,
        }
        stack.redis.hset(keys.usage(key.id, f"{today - timedelta(days=ago):%Y-%m-%d}"), mapping=fields)
    with page_of(browser, stack, "?model=a") as page:
        expect(page.get_by_role("img", name="Tokens a day: 103 in 30 days")).to_be_visible()
        choice(page, "By").select_option("Key")
        expect(sums(page).filter(has_text="one")).to_contain_text("100")
        expect(sums(page).filter(has_text="two")).to_contain_text("3")
        choice(page, "Model").fill("")
        choice(page, "Model").press("Enter")
        choice(page, "Time").select_option("90 days")
        expect(sums(page).filter(has_text="two")).to_contain_text("8")
        choice(page, "Shows").select_option("Cost a day in EUR")
        expect(page.get_by_role("img", name="Cost a day in EUR: ")).to_be_visible()
        page.reload()
        expect(choice(page, "Time")).to_have_value("90")
        expect(page.get_by_role("img", name="Cost a day in EUR: ")).to_be_visible()
        expect(page.locator(".bars title")).to_have_count(90)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(browser: Browser, stack: Stack, scheme: str) -> None:
    Credentials(stack.redis).create(f"limited {scheme}", requests_per_minute=9, tokens_per_minute=900)
    with stack.client() as client:
        secret = client.post("/keys", json={"name": scheme}).json()["data"]["secret"]
    ask(stack, secret)
    with page_of(browser, stack, color_scheme=scheme) as page:
        expect(row(page, f"limited {scheme}")).to_be_visible()
        expect(sums(page).filter(has_text="fake")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("button", name="Make a key").click()
        assert violations(page) == []
        page.get_by_role("button", name="Leave").click()
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="用量", exact=True)).to_be_visible()
        assert violations(page) == []

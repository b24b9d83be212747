"""The page of deployments in a real browser, on a real gateway: plan, deploy, follow, change, unload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.access.api_keys import Credentials
from gateway.cluster.known_footprints import Footprints
from tests.browser import dashboard, violations
from tests.deployments import small_device
from tests.stack import PATIENCE_S, Stack, eventually, running

pytestmark = pytest.mark.slow
DEMO = "smollm2-135m"
#: A real model that is loaded while others test takes its time.
LOADED_MS = 2_000 * PATIENCE_S
CATALOG = """
[models.slow]
capabilities = ["chat"]
engine = "fake"
options = { load_s = 60 }

[models.broken]
capabilities = ["chat"]
engine = "fake"
options = { fail_load = "BAD_QUANTIZATION" }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {}}, catalog=CATALOG, root_path="/llm") as stack:
        (device,) = eventually(stack.registry.devices, "the agent says what device it has")
        eventually(lambda: Footprints(stack.redis).get(device, DEMO), f"{DEMO} is measured")
        yield stack


@contextmanager
def deployments(browser: Browser, stack: Stack, model: str, scheme: str = "light") -> Iterator[Page]:
    """The page with a model chosen in its form."""
    with dashboard(browser, f"{stack.url}/llm/", color_scheme=scheme) as page:
        page.get_by_role("link", name="Deployments").click()
        page.get_by_role("combobox", name="Model", exact=True).select_option(model)
        expect(page.get_by_role("heading", name=f"What deploying {model} would take")).to_be_visible()
        yield page


def followed(page: Page, model: str, status: str) -> None:
    """Wait until the deployment that is shown is one of this model, and stands so."""
    expect(page.locator(".followed h2")).to_have_text(f"{model} {status}", timeout=LOADED_MS)


def test_a_model_is_planned_deployed_scaled_rolled_and_unloaded(browser: Browser, stack: Stack) -> None:
    with deployments(browser, stack, DEMO) as page:
        plan, deploy = page.locator(".plan"), page.get_by_role("button", name="Deploy", exact=True)
        expect(plan).to_contain_text("It fits. Nothing is loaded until you deploy.")
        expect(plan).to_contain_text(re.compile(r"weights \d+ MB.*KV cache [\d.]+ [MG]B"))
        assert not stack.registry.replicas(DEMO)
        page.get_by_label("max_batch_size").fill("2")
        page.get_by_label("context_length").fill("1024")
        deploy.click()
        followed(page, DEMO, "completed")
        stages = page.locator(".stages")
        expect(stages).to_contain_text(re.compile(r"downloading weights.*\d+ MB of \d+ MB"))
        expect(stages).to_contain_text(re.compile(r"model loading.*\d+ of \d+"))
        expect(page.get_by_role("log")).to_contain_text("serves")
        expect(page.get_by_role("row", name=re.compile(rf"^{DEMO} active"))).to_be_visible()

        page.get_by_label(f"Replicas of {DEMO}").fill("2")
        page.get_by_role("row", name=DEMO).get_by_role("button", name="Scale").click()
        eventually(lambda: len(stack.registry.replicas(DEMO)) == 2, "it has two replicas")
        followed(page, DEMO, "completed")

        before = {replica.replica_id for replica in stack.registry.replicas(DEMO)}
        page.get_by_role("row", name=DEMO).get_by_role("button", name="Roll").click()
        expect(page.get_by_label("replicas", exact=True)).to_have_value("2")
        expect(page.get_by_label("context_length")).to_have_value("1024")
        page.get_by_label("max_batch_size").fill("3")
        expect(plan).to_contain_text("It fits")
        deploy.click()
        eventually(
            lambda: (now := {r.replica_id for r in stack.registry.replicas(DEMO)}) and not now & before, "all are new"
        )
        followed(page, DEMO, "completed")
        assert {replica.max_batch_size for replica in stack.registry.replicas(DEMO)} == {3}

        row = page.get_by_role("row", name=DEMO)
        row.get_by_role("button", name="Unload").click()
        row.get_by_role("button", name="Keep").click()
        row.get_by_role("button", name="Unload").click()
        row.get_by_role("button", name="Unload").click()
        expect(page.get_by_label(f"Replicas of {DEMO}")).to_be_hidden()
        eventually(lambda: not stack.registry.replicas(DEMO), "it is gone")


def test_a_deployment_is_cancelled(browser: Browser, stack: Stack) -> None:
    with deployments(browser, stack, "slow") as page:
        page.get_by_role("button", name="Deploy", exact=True).click()
        expect(page.locator(".stages")).to_contain_text(re.compile(r"model initialization\d of 8"))
        expect(page.get_by_role("row", name="Show slow")).to_contain_text(re.compile(r"\d+ % (preparation|model)"))
        page.reload()
        followed(page, "slow", "in progress")
        page.get_by_role("button", name="Cancel deployment").click()
        followed(page, "slow", "cancelled")
        expect(page.get_by_label("Replicas of slow")).to_be_hidden()


def test_what_does_not_fit_shows_what_would(browser: Browser, stack: Stack) -> None:
    with small_device(stack, DEMO), deployments(browser, stack, DEMO) as page:
        plan, deploy = page.locator(".plan"), page.get_by_role("button", name="Deploy", exact=True)
        page.get_by_label("context_length").fill("8192")
        page.get_by_role("checkbox", name="small.cpu0").check()
        expect(plan).to_contain_text("It does not fit.")
        expect(deploy).to_be_disabled()
        expect(plan.get_by_role("button", name="target_nodes n1.cpu0")).to_be_visible()
        plan.get_by_role("button", name="max_batch_size").click()
        expect(plan).to_contain_text("It fits.")
        expect(page.get_by_label("max_batch_size")).not_to_have_value("")
        expect(deploy).to_be_enabled()


def test_room_that_was_freed_is_seen(browser: Browser, stack: Stack) -> None:
    with small_device(stack, DEMO), deployments(browser, stack, DEMO) as page:
        page.get_by_label("context_length").fill("8192")
        page.get_by_role("checkbox", name="small.cpu0").check()
        expect(page.locator(".plan")).to_contain_text("It does not fit.")
        small = next(device for device in stack.registry.devices() if device.node == "small")
        stack.registry.beat_device(replace(small, memory_free=8_000_000_000), lease_s=60)
        expect(page.locator(".plan")).to_contain_text("It fits.")


def test_a_failure_says_why_and_what_to_do(browser: Browser, stack: Stack) -> None:
    with deployments(browser, stack, "broken") as page:
        page.get_by_role("button", name="Deploy", exact=True).click()
        followed(page, "broken", "failed")
        expect(page.locator(".failure")).to_contain_text("BAD_QUANTIZATION")
        expect(page.get_by_text("What to do: Choose a quantization that the engine offers")).to_be_visible()
        page.get_by_role("button", name="Hide").click()
        expect(page.locator(".followed")).to_be_hidden()
        page.get_by_role("button", name="Show broken").first.press("Enter")
        followed(page, "broken", "failed")


def test_a_wrong_field_is_told_before_anything_is_deployed(browser: Browser, stack: Stack) -> None:
    with deployments(browser, stack, DEMO) as page:
        page.get_by_label("context_length").fill("100000")
        expect(page.locator(".plan")).to_contain_text(
            "deployment_config.context_length: Got 100000; the model has 8192."
        )


def test_a_key_without_the_scope_is_told_so(browser: Browser, stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("guest")
    with dashboard(browser, f"{stack.url}/llm/", key=secret) as page:
        page.get_by_role("link", name="Deployments").click()
        expect(page.get_by_text("This page needs a key with the scope deploy; yours has inference.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers(browser: Browser, stack: Stack, scheme: str) -> None:
    with small_device(stack, DEMO), deployments(browser, stack, DEMO, scheme) as page:
        page.get_by_label("context_length").fill("8192")
        page.get_by_role("checkbox", name="small.cpu0").check()
        expect(page.locator(".plan")).to_contain_text("It does not fit.")
        assert violations(page) == []
        page.get_by_role("combobox", name="Model", exact=True).select_option("broken")
        page.get_by_role("checkbox", name="small.cpu0").uncheck()
        expect(page.locator(".plan")).to_contain_text("It fits.")
        page.get_by_role("button", name="Deploy", exact=True).click()
        followed(page, "broken", "failed")
        assert violations(page) == []

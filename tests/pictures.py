"""Pictures of the dashboard for docs/dashboard.md: `make pictures`. A real stack under real load, in Chromium.

The local model is the demo model; two small servers stand in for the providers of the remote ones. A worker is killed
while it answers, so that there is something to see.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from gateway.access.api_keys import Credentials
from tests.browser import chromium, dashboard, violations
from tests.stack import REPOSITORY, Stack, eventually, lines_of
from tests.upstreams.base import Fault
from tests.upstreams.world import PATIENT, Tables, World, world

FOLDER = REPOSITORY / "docs" / "pictures"
MODEL = "smollm2-135m"
#: What a replica with a batch of 256 takes at least.
BYTES = 1_800_000_000
#: Largest file, and the colours of one: there are few.
MOST_BYTES, COLOURS = 150_000, 256
#: Requests that are open at once, by whom: those of `nightly` are background jobs, `mobile-app` asks providers.
CLIENTS = {"web-shop": 6, "analysts": 2, "nightly": 4, "mobile-app": 2}
#: How often one of a client's threads asks anew, each second.
PACE = {"mobile-app": 0.2}
QUESTIONS = ("Why is the sky blue?", "Write a short poem about rivers.", "What is a queue?", "Name five fruits.")


def tables(openai_url: str, anthropic_url: str) -> tuple[Tables, Tables]:
    """Two providers, each with one model."""
    openai = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT, "max_retries": 0}
    anthropic = {**openai, "protocol": "anthropic", "base_url": anthropic_url, "api_key_env": "UP_ANTHROPIC_KEY"}
    price = {"input_per_1k_tokens": 0.002, "output_per_1k_tokens": 0.008, "currency": "USD"}
    remote = {"capabilities": ["chat"], "pricing": price}
    models = {"large": {**remote, "provider": "openai"}, "careful": {**remote, "provider": "anthropic"}}
    return {"openai": openai, "anthropic": anthropic}, models


class Load:
    """Clients that ask again and again, each in a thread of its own."""

    def __init__(self, running: World) -> None:
        self._stack = running.stack
        self._servers = (running.openai, running.anthropic)
        self._over = threading.Event()
        self._gone: set[str] = set()
        self._threads: dict[str, list[threading.Thread]] = defaultdict(list)

    @contextlib.contextmanager
    def lasting(self) -> Iterator[None]:
        """Until the end of the block."""
        credentials = Credentials(self._stack.redis)
        for name, count in CLIENTS.items():
            limit = {"tokens_per_minute": 60_000} if name == "analysts" else {}
            _, secret = credentials.create(name, **limit)
            for seed in range(count):
                self._begin(name, self._asks, name, secret, random.Random(f"{name} {seed}"))
        self._begin("errors", self._errs)
        try:
            yield
        finally:
            self._over.set()
            for name in self._threads:
                self.end(name)

    def end(self, name: str) -> None:
        """One client leaves, when it has its last answers."""
        self._gone.add(name)
        for thread in self._threads[name]:
            thread.join()

    def _begin(self, name: str, what: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads[name].append(thread)
        thread.start()

    def _asks(self, name: str, secret: str, chance: random.Random) -> None:
        background = {"priority": "background"} if name == "nightly" else {}
        with self._stack.client(secret) as client:
            while not self._over.wait(chance.expovariate(PACE.get(name, 2.0))) and name not in self._gone:
                model = chance.choice(("large", "careful")) if name == "mobile-app" else MODEL
                with contextlib.suppress(httpx.HTTPError):
                    self._ask(client, model, chance, background)

    def _ask(self, client: httpx.Client, model: str, chance: random.Random, more: Mapping[str, Any]) -> None:
        messages = [{"role": "user", "content": chance.choice(QUESTIONS)}]
        body = {"messages": messages, "max_tokens": chance.randint(20, 90), "stream": True, "temperature": 0.8, **more}
        with client.stream("POST", f"/models/{model}/chat/completions", json=body) as response:
            for _ in lines_of(response.iter_text()):
                if self._over.is_set():
                    return

    def _errs(self) -> None:
        """What users and providers get wrong."""
        with self._stack.client() as client, self._stack.client("hr-of-yesterday") as stranger:
            for turn in itertools.cycle(range(6)):
                if self._over.wait(5):
                    return
                if turn % 3 == 0:
                    self._servers[turn % 2].faults.append(Fault("status", status=(500, 429)[turn % 2]))
                path = f"/models/{MODEL}/chat/completions"
                wrong = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 9}
                _ = client.post(path, json=wrong) if turn % 2 else stranger.get("/models")
                _ = client.get("/models/gpt-5") if turn % 3 else None


def take(page: Page, name: str) -> None:
    """The page as it is, light and dark."""
    FOLDER.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        page.get_by_label("Theme").select_option(theme)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(1000)
        flaws = violations(page)
        assert not flaws, flaws
        image = Image.open(io.BytesIO(page.screenshot()))
        path = FOLDER / f"{name}-{theme}.png"
        image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        click.echo(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1000:.0f} kB, axe-core finds nothing")
        assert path.stat().st_size <= MOST_BYTES


def go(page: Page, name: str) -> None:
    """To a page by its link."""
    page.get_by_role("link", name=name, exact=True).click()


def deployed(page: Page, stack: Stack) -> None:
    """The demo model is deployed through the page, and is all that this gateway has."""
    with stack.client() as client:
        client.delete("/models/local/fake").raise_for_status()
    go(page, "Deployments")
    page.get_by_role("combobox", name="Model", exact=True).select_option(MODEL)
    page.get_by_label("max_batch_size").fill("4")
    page.get_by_label("context_length").fill("2048")
    page.get_by_label("replicas", exact=True).fill("2")
    expect(page.locator(".plan")).to_contain_text("It fits.")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator(".followed h2")).to_have_text(f"{MODEL} completed", timeout=300_000)


def deployments(page: Page, stack: Stack) -> None:
    """A plan that does not fit, beside the deployment that was."""
    go(page, "Deployments")
    page.get_by_role("button", name=f"Show {MODEL}").first.click()
    page.get_by_label("max_batch_size").fill("256")
    (device,) = stack.registry.devices()
    page.get_by_label("replicas", exact=True).fill(str(device.memory_total // BYTES))
    expect(page.locator(".alternatives")).to_be_visible()
    take(page, "deployments")


def playground(page: Page, stack: Stack) -> str:
    """The same asked twice, side by side; a worker is killed in mid-answer. Returns the id of a job that it had."""
    go(page, "Playground")
    page.get_by_role("combobox", name="Model", exact=True).select_option(MODEL)
    page.get_by_label("Second model").select_option(MODEL)
    page.get_by_label("max_tokens").fill("160")
    page.get_by_label("temperature").fill("0.7")
    page.get_by_label("Message", exact=True).fill("How does a river find its way to the sea?")
    page.keyboard.press("Enter")
    answer = page.locator(".answer").first
    eventually(lambda: len(answer.locator(".text").text_content() or "") > 80, "some of it is there", 300)
    with stack.client() as client:
        mine = {"model": MODEL, "key": "bootstrap", "limit": 1}
        job_id = str(client.get("/jobs", params=mine).json()["data"]["jobs"][0]["job_id"])
    job = stack.store.read(job_id)
    assert job is not None
    os.kill(next(one.pid for one in stack.registry.replicas(MODEL) if one.incarnation == job.owner), signal.SIGKILL)
    expect(page.locator(".answer .state code")).to_have_count(2, timeout=300_000)
    expect(page.get_by_role("log", name="").filter(has_text="Another one took over").first).to_be_visible()
    take(page, "playground")
    return job_id


@click.command()
@click.option("--load-s", default=420.0, help="How long there is load before the pictures are taken.")
def main(load_s: float) -> None:
    """Take all pictures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        world(Path(folder) / "s", tables, node="worker-01") as running,
        chromium() as browser,
        dashboard(browser, f"{running.stack.url}/") as page,
    ):
        deployed(page, running.stack)
        load = Load(running)
        with load.lasting():
            time.sleep(load_s)
            go(page, "Overview")
            expect(page.get_by_role("row", name=f"{MODEL} active")).to_be_visible()
            take(page, "overview")
            deployments(page, running.stack)
            go(page, "Jobs")
            expect(page.get_by_role("row", name=MODEL).first).to_be_visible()
            take(page, "jobs")
            go(page, "Keys and usage")
            expect(page.get_by_role("region", name="API keys").get_by_role("row", name="analysts")).to_be_visible()
            expect(page.get_by_role("region", name="Sums of this time")).to_be_visible()
            take(page, "keys")
            load.end("web-shop")
            job_id = playground(page, running.stack)
            page.goto(f"{running.stack.url}/#/jobs/{job_id}")
            take(page, "job")


if __name__ == "__main__":
    main()

"""Jobs of remote models wait in lines, and a provider worker with one thread takes the best of all its models.

The order is the one in which the provider was called.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
import redis

from gateway.jobs.record import Job, JobState
from gateway.models.entry import Model, Provider
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue
from gateway.queue.names import Priority, lists, model_queue, provider_queue
from gateway.scheduling.lines import OUTPUT_COST, Lines, Wish
from gateway.store import keys
from gateway.store.connection import NOT_NOW
from gateway.store.scripts import Scripts
from tests.stack import KEY, chat, eventually
from tests.upstreams.base import Fault, answer, word
from tests.upstreams.world import PATIENT, Tables, World
from tests.upstreams.world import world as run
from workers.providers.base import UpstreamDelta
from workers.providers.puller import Puller
from workers.providers.run import ProviderRun
from workers.providers.transcript import Transcript

MODELS = ("one", "two")
SHARE = 0.25


def tables(openai_url: str, _anthropic_url: str) -> tuple[Tables, Tables]:
    oa = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    model = {"capabilities": ["chat"], "provider": "oa", "on_interrupt": "restart"}
    return {"oa": oa}, dict.fromkeys(MODELS, model)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("s")
    with run(folder, tables, provider_concurrency=1, background_share=SHARE) as world:
        yield world


def test_tokens_that_were_made_while_redis_was_away_are_charged_later(redis_client: redis.Redis) -> None:
    """Else their key would be served more than its part."""
    lines = Lines(redis_client, Scripts(redis_client))
    puller = Puller(
        queue="provider.n",
        lines=lines,
        threads=1,
        idle_s=1.0,
        share=SHARE,
        models=lambda: MODELS,
        run=lambda _: None,
        takes_quarantined=lambda: True,
    )
    job = Job("j", JobState.RUNNING, "chat", "one", "k", {"messages": []}, claim="c")
    answer = ProviderRun(
        job, Model("one", "M", "", "1", ("chat",), provider="p"), Provider("p", "openai"), Transcript(job, ())
    )
    call = answer.transcript.begin_call()
    for refused in (True, False):
        answer.transcript.take(UpstreamDelta(completion_tokens=5 if refused else 7), call)
        puller.count(answer)
        puller.wake()
        redis_client.config_set("min-replicas-to-write", int(refused))
        with pytest.raises(NOT_NOW) if refused else nullcontext():
            puller._step()
    served = redis_client.zscore(f"{keys.lines('one')}:interactive:served", "k")
    assert served == pytest.approx(OUTPUT_COST * 7)


class Queue:
    """Requests by name. The first is held by the provider, so that all others wait."""

    def __init__(self, world: World, senders: ThreadPoolExecutor) -> None:
        self.world = world
        self._senders = senders
        self.answers: list[Future[httpx.Response]] = []
        self.background: dict[str, str] = {}
        world.openai.faults.append(Fault("hold"))
        self.send("first")
        assert world.openai.held.acquire(timeout=60)
        self._waiting = 0

    def send(self, name: str, *, key: str = KEY, model: str = "one", words: int = 4) -> None:
        """Somebody waits for the answer."""
        self.answers.append(self._senders.submit(self._post, name, key, model, words, {}))

    def leave(self, name: str, *, model: str = "one", words: int = 4) -> None:
        """A background job, made when this returns."""
        answered = self._post(name, KEY, model, words, {"Prefer": "respond-async"})
        self.background[name] = answered.json()["data"]["job_id"]

    def wait_for(self, count: int) -> None:
        """Until so many wait."""
        names = [f"{keys.lines(model)}:{line}" for model in MODELS for line in ("interactive", "background")]
        eventually(lambda: sum(self.world.stack.redis.zcard(name) for name in names) == count, f"{count} wait")

    def served(self, count: int) -> list[str]:
        """The names of the first so many that the provider is asked for, once it goes on, without the held one."""
        self.world.openai.go.set()
        received = self.world.openai.received
        eventually(lambda: len(received) > count, f"{count} calls")
        return [str(one.body["messages"][-1]["content"]) for one in received[1 : count + 1]]

    def end(self) -> None:
        """All have ended well, each after one call."""
        for answered in self.answers:
            assert answered.result(60).status_code == 200, answered.result().text
        for name, job_id in self.background.items():
            eventually(lambda job_id=job_id: self.world.job(job_id)["status"] == "completed", f"{name} is done")
        asked = Counter(str(one.body["messages"][-1]["content"]) for one in self.world.openai.received)
        assert max(asked.values()) == 1

    def _post(self, name: str, key: str, model: str, words: int, headers: dict[str, str]) -> httpx.Response:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": name}], "max_tokens": words}
        with self.world.stack.client(key) as client:
            return client.post(f"/models/{model}/chat/completions", json=body, headers=headers)


@pytest.fixture
def world(started: World) -> World:
    """With a worker, which has nothing to do."""
    started.calm()
    return started


@pytest.fixture
def queue(world: World) -> Iterator[Queue]:
    with ThreadPoolExecutor(64) as senders:
        queue = Queue(world, senders)
        try:
            yield queue
            queue.end()
        finally:
            world.openai.go.set()


def new_key(world: World, name: str, weight: int) -> str:
    with world.stack.client() as client:
        made = client.post("/keys", json={"name": name, "weight": weight})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["secret"])


def test_a_request_comes_before_a_backlog_of_background_jobs(queue: Queue) -> None:
    for i in range(30):
        queue.leave(f"b{i}")
    queue.send("request")
    queue.wait_for(31)
    assert queue.served(1) == ["request"]


def test_positions_are_those_in_the_order_and_nobody_knows_how_long_a_provider_takes(queue: Queue) -> None:
    for name in ("b0", "b1"):
        queue.leave(name)
    queue.send("request")
    queue.wait_for(3)
    found = [queue.world.job(queue.background[name]) for name in ("b0", "b1")]
    assert [(job["position"], job["eta_s"]) for job in found] == [(2, None), (3, None)]
    assert queue.served(3) == ["request", "b0", "b1"]


def test_keys_are_served_by_their_tokens_over_their_weights(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words over weight differ by no more than a job of each has."""
    monkeypatch.setattr(queue.world.openai, "words", 180)
    heavy, light = new_key(queue.world, "heavy", 2), new_key(queue.world, "light", 1)
    for i in range(16):
        queue.send(f"heavy{i}", key=heavy, words=60)
        queue.send(f"light{i}", key=light, words=180)
    queue.wait_for(32)
    served = Counter(name.rstrip("0123456789") for name in queue.served(14))
    assert abs(served["heavy"] * 60 / 2 - served["light"] * 180) <= 60 / 2 + 180, served


def test_background_jobs_get_their_share_while_others_wait_all_the_time(queue: Queue) -> None:
    for i in range(8):
        queue.leave(f"b{i}")
    for i in range(30):
        queue.send(f"i{i}")
    queue.wait_for(38)
    kinds = "".join(name[0] for name in queue.served(25))
    most = round(1 / SHARE)
    assert max(map(len, kinds.split("b"))) <= most, kinds
    assert kinds.count("b") <= len(kinds) // most + 1, kinds


def test_a_model_waits_for_no_background_job_of_another_and_none_is_left_out(queue: Queue) -> None:
    for i in range(6):
        queue.leave(f"one-b{i}", model="one")
    for i in range(3):
        queue.leave(f"two-b{i}", model="two")
    queue.send("two-request", model="two")
    queue.wait_for(10)
    served = queue.served(7)
    assert served[0] == "two-request"
    assert Counter(name[:5] for name in served[1:]) == {"one-b": 3, "two-b": 3}


def test_a_flood_of_one_model_keeps_no_request_of_another_waiting(queue: Queue) -> None:
    for i in range(20):
        queue.send(f"one-{i}", model="one")
    queue.wait_for(20)
    queue.send("two", model="two")
    queue.wait_for(21)
    assert "two" in queue.served(2)


def test_messages_that_come_twice_or_for_nothing_do_no_harm(queue: Queue) -> None:
    app = make_celery(queue.world.stack.settings)
    (worker,) = queue.world.stack.registry.providers()
    queue.leave("waits")
    for job_id in ("chatcmpl-gone", queue.background["waits"], queue.background["waits"]):
        for name in (model_queue("one"), provider_queue(worker.node)):
            enqueue(app, job_id, queue_key="one", priority=Priority.RECOVERED, queue=name)
    names = [name for one in (model_queue("one"), provider_queue(worker.node)) for name in lists(one)]
    eventually(lambda: not queue.world.stack.redis.exists(*names), "all messages are taken")
    assert queue.served(1) == ["waits"]
    app.close()


def test_what_a_worker_was_offered_before_it_died_is_offered_again(queue: Queue) -> None:
    stack = queue.world.stack
    queue.leave("lost")
    (offer,) = Lines(stack.redis, stack.store.scripts).next_jobs("one", Wish("provider.dead", total=1, free=1))
    assert offer.job_id == queue.background["lost"]
    queue.leave("later")
    assert set(queue.served(2)) == {"lost", "later"}


def test_lost_messages_and_openings_delay_nobody_for_long(queue: Queue) -> None:
    """The worker looks by itself."""
    queue.world.openai.go.set()
    queue.answers[0].result(60)
    (worker,) = queue.world.stack.registry.providers()
    opening = keys.openings("one")
    eventually(lambda: queue.world.stack.redis.zrem(opening, provider_queue(worker.node)), "it is open")
    queue.leave("untold")
    assert queue.served(1) == ["untold"]


def test_a_job_that_has_lost_its_worker_is_first(world: World) -> None:
    stack = world.stack
    world.openai.faults.append(Fault("hold", after=2))
    stream = chat(stack, "lost", model="two")
    assert world.openai.held.acquire(timeout=60)
    others = [chat(stack, f"other{i}", model=MODELS[i % 2]) for i in range(4)]
    waiting = [f"{keys.lines(model)}:interactive" for model in MODELS]
    eventually(lambda: sum(stack.redis.zcard(name) for name in waiting) == 4, "the others wait")
    stack.kill("provider")
    eventually(lambda: stack.redis.zcard(f"{keys.lines('two')}:first"), "the keeper has found it")
    world.start_worker()
    for one in (stream, *others):
        assert (one.join().text, one.error) == (answer(), None)
    assert [one.body["messages"][-1]["content"] for one in world.openai.received[:2]] == ["lost", "lost"]


def test_a_worker_that_is_stopped_lets_its_calls_end_and_takes_no_more(world: World) -> None:
    stack = world.stack
    world.openai.pace_s = 0.1
    try:
        stream = chat(stack, "runs", model="one")
        eventually(lambda: word(3) in stream.text, "it runs")
        waits = chat(stack, "waits", model="one")
        eventually(lambda: stack.redis.zcard(f"{keys.lines('one')}:interactive"), "the other waits")
        stack.kill("provider", signal.SIGTERM)
    finally:
        world.openai.pace_s = 0.0
    assert (stream.join().text, stream.error) == (answer(), None)
    assert [one.body["messages"][-1]["content"] for one in world.openai.received] == ["runs"]
    assert not any(stack.redis.exists(keys.openings(model)) for model in MODELS), "it is told of nothing"
    world.start_worker()
    assert waits.join().text == answer()

"""Garbage in the lists and channels of the broker: it is dropped, and no process ends of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.queue.celery_app import make_celery
from gateway.queue.names import device_queue, lists, model_queue, replica_queue, wake_queue
from gateway.queue.wake_ups import holds_wake_ups
from gateway.store import keys
from tests.garbage import forms
from tests.stack import Stack, chat, eventually, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("g"), {"fake": {}}) as stack:
        yield stack


def test_no_form_of_garbage_in_a_queue_ends_a_worker(stack: Stack) -> None:
    replica = stack.replica()
    agent = stack.processes["agent"].pid
    own = [wake_queue(replica.replica_id), replica_queue("n1", "cpu0", "fake"), device_queue("n1", "cpu0")]
    queues = [*lists(model_queue("fake")), *own]
    assert all(holds_wake_ups(queue) for queue in queues)
    for count, (name, raw) in enumerate(forms().items()):
        queue = queues[count % len(queues)]
        stack.redis.lpush(queue, raw)
        eventually(lambda queue=queue: not stack.redis.llen(queue), f"{name}: it was taken from {queue}")
        assert chat(stack, max_tokens=2).join(60).finish_reason == "length", name
    assert stack.replica().pid == replica.pid
    assert stack.replica().engine_pid == replica.engine_pid
    assert stack.processes["agent"].pid == agent
    assert stack.processes["agent"].poll() is None
    log = (stack.folder / "logs" / f"model-{replica.replica_id}.log").read_text()
    assert "queue model.fake: dropped an item that is no wake-up message, 10 bytes: b'garbage{{{'" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_no_form_of_garbage_in_a_line_keeps_a_job_waiting(stack: Stack, kind: str) -> None:
    replica, base = stack.replica(), keys.lines("fake")
    lines = [f"{line}{part}" for line in ("interactive", "background") for part in ("", ":keys", ":served")]
    for name in (*lines, "first", "quarantined", "offered", "openings", "promises:interactive"):
        streams = [chat(stack, max_tokens=20) for _ in range(4)]
        stack.redis.delete(f"{base}:{name}")
        if kind == "set":
            stack.redis.set(f"{base}:{name}", "garbage")
        else:
            stack.redis.zadd(f"{base}:{name}", dict.fromkeys(list(forms().values())[:20], 5))
        streams += [chat(stack, max_tokens=20) for _ in range(4)]
        for stream in streams:
            assert stream.join(60).finish_reason == "length", name
    assert stack.replica().pid == replica.pid
    log = (stack.folder / "logs" / f"model-{replica.replica_id}.log").read_text()
    assert "Traceback" not in log


def test_garbage_for_the_remote_control_harms_nobody_and_control_goes_on(stack: Stack) -> None:
    replica = stack.replica()
    with closing(make_celery(stack.settings)) as app:
        before = app.control.ping(timeout=2)
        # Redis cuts off a subscriber to whom it has to send more than that.
        small = {name: raw for name, raw in forms().items() if len(raw) < 1_000_000}
        for name, raw in small.items():
            # Celery may subscribe anew behind a command that it could not carry out.
            eventually(lambda raw=raw: stack.redis.publish("/0.celery.pidbox", raw) >= 2, f"{name}: both hear it")
        # A queue can still be added, and the worker still answers.
        hostname = next(host for answer in before for host in answer if host.startswith("fake"))
        added = app.control.add_consumer("model.other", destination=[hostname], reply=True, timeout=5)
        assert "ok" in added[0][hostname]
        app.control.cancel_consumer("model.other", destination=[hostname], reply=True, timeout=5)
        assert {host for answer in app.control.ping(timeout=2) for host in answer} >= {hostname}
    assert chat(stack, max_tokens=2).join(60).finish_reason == "length"
    assert stack.replica().pid == replica.pid

"""A worker consumes its queues, whatever a remote command, such as Flower's buttons send, has told it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Replica
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import wake
from gateway.queue.names import model_queue, replica_queue, wake_queue
from tests.stack import Stack, chat, eventually, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("c"), {"fake": {}}) as stack:
        yield stack


def test_a_cancelled_consumer_is_put_right(stack: Stack) -> None:
    replica = stack.replica()
    with closing(make_celery(stack.settings)) as app:

        def found() -> list[str]:
            return [host for answer in app.control.ping(timeout=1) for host in answer if host.startswith("fake")]

        (hostname,) = eventually(found, "the worker answers")
        for queue in (model_queue("fake"), replica_queue("n1", "cpu0", "fake")):
            answers = app.control.cancel_consumer(queue, destination=[hostname], reply=True, timeout=5)
            assert "ok" in answers[0][hostname]
        assert chat(stack, max_tokens=2).join(60).finish_reason == "length"
        app.control.add_consumer("model.other", destination=[hostname], reply=True, timeout=5)

        def queues() -> set[str]:
            found = app.control.inspect([hostname], timeout=2).active_queues() or {}
            return {queue["name"] for queue in found.get(hostname, [])}

        wanted = {model_queue("fake"), replica_queue("n1", "cpu0", "fake"), wake_queue(replica.replica_id)}
        eventually(lambda: queues() == wanted, "it takes from its own queues, and no others")
    assert stack.replica().pid == replica.pid
    assert stack.replica().health == "healthy"


#: A worker whose first message is still being delivered when the second comes, and which ends when it has.
WORKER = """
import os, threading
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from workers.celery_worker import consume

both = threading.Barrier(2, action=lambda: os._exit(0))

class Woken:
    def generate(self, job_id):
        both.wait()

settings = Settings.load()
app = make_celery(settings)
app.replica = Woken()
consume(app, settings, hostname="woken@test", queues=lambda: ["replica.woken"])
"""


def test_a_message_right_behind_another_is_taken_at_once(stack: Stack) -> None:
    """It does not wait for the worker's next look."""
    stack.start("woken", [sys.executable, "-c", WORKER])
    with closing(make_celery(stack.settings)) as app:
        for _ in range(2):
            wake(app, "replica.woken")
    assert stack.processes.pop("woken").wait(60) == 0


def test_a_replica_that_takes_no_messages_is_not_healthy() -> None:
    wanted = ReplicaSpec("r", "m", "n", "cpu0")
    replica = Replica("i", wanted.replica_id, wanted.model, wanted.node, wanted.device, "active", 1, deaf=True)
    assert replica.health == "deaf"

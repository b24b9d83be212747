"""Faults of the queue's messages, which are only hints: lost, doubled, late, garbage."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from gateway.queue.names import lists, model_queue, provider_queue, wake_queue
from tests.faults.matrix.load import Background
from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World

#: What kombu or Celery may choke on.
GARBAGE = ("garbage{{{", "", "[1,2]", "null", '{"body": "", "headers": {}}', '{"properties": null}', "\x00\xff")
#: How much is done to the lists.
ROUNDS, PAUSE_S = 12, 0.25


def lists_of(world: World) -> list[str]:
    """Where messages lie: for all that run the model, for each replica, and for each provider worker."""
    registry = world.stack.registry
    replicas = [wake_queue(one.replica_id) for one in registry.replicas("fake")]
    providers = [provider_queue(one.node) for one in registry.providers()]
    return [name for queue in (model_queue("fake"), *replicas, *providers) for name in lists(queue)]


def more(load: Load) -> None:
    """More than the replicas can take at once, so that some wait."""
    load.add(*(Background(load.world, load.key, tokens=60) for _ in range(50)))


def lost(world: World, _: Load) -> Sequence[str] | None:
    """The lists are deleted, again and again."""
    for _ in range(ROUNDS):
        world.stack.redis.delete(*lists_of(world))
        time.sleep(PAUSE_S)
    return None


def doubled(world: World, load: Load) -> Sequence[str] | None:
    """Each message is there three times; and those of jobs that run, or have ended, come again."""
    redis = world.stack.redis
    seen: set[tuple[str, str]] = set()
    for _ in range(ROUNDS):
        there = {(name, str(message)) for name in lists_of(world) for message in redis.lrange(name, 0, -1)}
        for name, message in there - seen:
            redis.lpush(name, message, message)
        for name, message in list(seen)[:10]:
            redis.lpush(name, message)
        seen |= there
        time.sleep(PAUSE_S)
    return None


def late(world: World, _: Load) -> Sequence[str] | None:
    """All messages are taken away, and come a few seconds later."""
    redis = world.stack.redis
    taken: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        for name in lists_of(world):
            while message := redis.rpop(name):
                taken.append((name, str(message)))
        time.sleep(PAUSE_S)
    for name, message in taken:
        redis.lpush(name, message)
    return None


def garbage(world: World, _: Load) -> Sequence[str] | None:
    """Messages that are none: of other forms, cut off, with a body of other forms, for tasks that nobody knows."""
    redis = world.stack.redis
    real = next((m for name in lists_of(world) for m in redis.lrange(name, 0, 0)), None)
    for message in [*GARBAGE, *(_mutants(json.loads(str(real))) if real else [])]:
        redis.lpush(model_queue("fake"), message)
        time.sleep(0.1)
    return None


def _mutants(message: dict[str, Any]) -> list[str]:
    cut = json.dumps(message)
    changed: list[dict[str, Any]] = [
        {**message, "body": "!!!"},
        {**message, "body": ""},
        {**message, "headers": {}},
        {**message, "content-type": "application/x-python-serialize"},
        {**message, "content-encoding": "no-such"},
        {**message, "properties": {**message["properties"], "body_encoding": "nope"}},
        {**message, "headers": {**message["headers"], "task": "no.such.task"}},
        {**message, "headers": {**message["headers"], "eta": "soon"}},
    ]
    return [cut[: len(cut) // 2], *map(json.dumps, changed)]

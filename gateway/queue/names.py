"""The names of queues and tasks, and the priorities of messages. Knows nothing of Celery itself.

A job waits under a queue key: the id of a model, or the key of a device, whose agent runs deployments.
"""

from __future__ import annotations

import re
from enum import IntEnum

#: The Celery tasks: one runs a model, one deploys it.
GENERATE, DEPLOY = "headrace.generate", "headrace.deploy"


class Priority(IntEnum):
    """Steps of kombu's Redis transport; the lowest number is served first."""

    #: About a job that lost its worker, or its first message.
    RECOVERED = 0
    #: Any other.
    INTERACTIVE = 3


def slug(model_id: str) -> str:
    """A model id made safe for queue and worker names (Celery splits at `@` and expands `%`)."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match[0]):x}_", model_id)


def model_queue(model_id: str) -> str:
    """The queue that all replicas of a model share."""
    return f"model.{slug(model_id)}"


def provider_queue(node: str) -> str:
    """The queue of the provider worker of a node, for messages that there is work."""
    return f"provider.{node}"


def device_queue(node: str, device: str) -> str:
    """The queue of one agent."""
    return f"gpu.{node}.{device}"


def replica_queue(node: str, device: str, model_id: str) -> str:
    """The queue of one replica, for requests that are pinned to it."""
    return f"{device_queue(node, device)}.{slug(model_id)}"


def wake_queue(replica_id: str) -> str:
    """The queue of one replica, for messages that there is work."""
    return f"replica.{slug(replica_id)}"


def device_queue_key(node: str, device: str) -> str:
    """The queue key of a device; model ids never begin with `@`."""
    return f"@{node}.{device}"


def is_device(queue_key: str) -> bool:
    """Whether it is the key of a device, not of a model."""
    return queue_key.startswith("@")


def queue_of(queue_key: str) -> str:
    """The Celery queue in which wake-up messages for a queue key are sent."""
    return f"gpu.{queue_key[1:]}" if is_device(queue_key) else model_queue(queue_key)


def lists(queue: str) -> list[str]:
    """The Redis lists behind a queue, one for each priority."""
    return [queue if step == 0 else f"{queue}:{step.value}" for step in Priority]

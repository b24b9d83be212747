"""Recognizes wake-up messages: the messages that tell a worker which job waits.

Whoever can reach Redis can put anything into a queue, and some of it would end Celery's worker, so everything else is
dropped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from gateway.queue.names import DEPLOY, GENERATE
from gateway.store.codec import loads

#: Prefixes of the queues that hold wake-up messages; the other queues are Celery's own: control, replies, events.
WAKE_UP_QUEUES = ("model.", "gpu.", "provider.", "replica.")
#: A wake-up message has about 1 KiB.
MAX_WAKE_UP_BYTES = 16 * 1024
_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
#: Headers on which Celery would act before, or instead of, running the task. Ours leave them empty.
_UNUSED_HEADERS = ("shadow", "eta", "expires", "group", "group_index", "stamped_headers", "compression")


def holds_wake_ups(queue: str) -> bool:
    """Whether a queue holds only wake-up messages."""
    return queue.startswith(WAKE_UP_QUEUES)


def is_wake_up(raw: bytes) -> bool:
    """Whether an item of a Redis list is a wake-up message."""
    if len(raw) > MAX_WAKE_UP_BYTES:
        return False
    try:
        message = loads(raw)
        return is_message(message) and _names_our_task(message) and _names_one_job_at_most(message["body"])
    except ValueError:
        return False


def is_message(value: Any) -> bool:
    """Whether kombu can make a message of this value."""
    if not isinstance(value, Mapping) or not isinstance(value.get("headers") or {}, Mapping):
        return False
    body, properties = value.get("body"), value.get("properties")
    if not isinstance(body, str) or not isinstance(properties, Mapping):
        return False
    if not isinstance(properties.get("delivery_tag"), str):
        return False
    if not isinstance(properties.get("delivery_info") or {}, Mapping):
        return False
    try:
        return properties.get("body_encoding") == "base64" and base64.b64decode(body) is not None
    except ValueError:
        return False


def is_command(message: Mapping[str, Any]) -> bool:
    """Whether a message is a command to workers (kombu's pidbox). Some others would end Celery's listener."""
    try:
        command = loads(base64.b64decode(message["body"]))
    except ValueError:
        return False
    return (
        isinstance(command, Mapping)
        and isinstance(command.get("method"), str)
        and isinstance(command.get("arguments") or {}, Mapping)
        and isinstance(command.get("destination") or [], list)
        and isinstance(command.get("reply_to") or {}, Mapping)
        and command.get("pattern") is None
    )


def _names_our_task(message: Mapping[str, Any]) -> bool:
    headers = message.get("headers") or {}
    return (
        headers.get("task") in (GENERATE, DEPLOY)
        and isinstance(headers.get("id"), str)
        and not any(headers.get(name) for name in _UNUSED_HEADERS)
        and headers.get("timelimit") in (None, [None, None])
        and headers.get("retries") in (None, 0)
        and (message.get("content-type"), message.get("content-encoding")) == ("application/json", "utf-8")
    )


def _names_one_job_at_most(body: str) -> bool:
    """Whether the body, `[args, kwargs, callbacks]`, has one job id or none, and nothing else. Raises: ValueError."""
    match loads(base64.b64decode(body)):
        case [[str(job_id)], {**named}, {**then}]:
            return _JOB_ID.fullmatch(job_id) is not None and not named and not any(then.values())
        case [[], {**named}, {**then}]:
            return not named and not any(then.values())
    return False

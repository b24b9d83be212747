"""What a message in a queue of hints looks like.

Anyone who reaches Redis can put anything there, and Celery ends at some of it: what is no hint of ours is dropped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from gateway.queue.names import DEPLOY, GENERATE
from gateway.store.codec import loads

#: Queues whose messages are hints; the others are Celery's own: control, replies, events.
HINT_QUEUES = ("model.", "gpu.", "provider.")
#: A hint has about 1 KiB.
MAX_HINT_BYTES = 16 * 1024
_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
#: What Celery would act upon before, or instead of, the task.
_UNUSED_HEADERS = ("shadow", "eta", "expires", "group", "group_index", "stamped_headers", "compression")


def takes_hints(queue: str) -> bool:
    """Whether all messages of a queue are hints."""
    return queue.startswith(HINT_QUEUES)


def is_hint(raw: bytes) -> bool:
    """Whether a message, as it lies in Redis, is a hint of ours."""
    if len(raw) > MAX_HINT_BYTES:
        return False
    try:
        message = loads(raw)
        return is_message(message) and _names_our_task(message) and _names_one_job(message["body"])
    except ValueError:
        return False


def is_message(value: Any) -> bool:
    """Whether a value is one that kombu can make a message of."""
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
    """Whether a message is a command to workers (kombu's pidbox). Celery loses its ear at some others."""
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


def _names_one_job(body: str) -> bool:
    """Celery's body is arguments, named arguments, and what to do behind the task: nothing. Raises: ValueError."""
    match loads(base64.b64decode(body)):
        case [[str(job_id)], {**named}, {**then}]:
            return _JOB_ID.fullmatch(job_id) is not None and not named and not any(then.values())
    return False

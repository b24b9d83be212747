"""What may lie in a queue of wake-up messages, and is none."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from gateway.queue.names import GENERATE

NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(
    body: Any, *, headers: dict[str, Any] | None = None, task: Any = GENERATE, **changes: Any
) -> dict[str, Any]:
    """A message as Celery would write it, with changes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    tag = secrets.token_hex(8)
    return {
        "body": base64.b64encode(raw).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": tag, "argsrepr": "", "root_id": tag, **(headers or {})},
        "properties": {
            "correlation_id": tag,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "model.fake"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
        **changes,
    }


def forms() -> dict[str, bytes]:
    """Garbage by what is wrong with it."""
    whole_body = [["nojob"], {}, NOTHING]
    whole = message(whole_body)
    raw: dict[str, bytes] = {
        "not JSON": b"garbage{{{",
        "empty": b"",
        "not UTF-8": b"\xff\xfe\x00",
        "deep": b"[" * 200_000,
        "deep, but short": b"[" * 5_000,
        "deep object": b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
        "30 MB of nothing": b"x" * 30_000_000,
    }
    shapes: dict[str, Any] = {
        "a list": [1, 2],
        "null": None,
        "a number": 7,
        "no properties": {"body": "", "headers": {}},
        "properties are a list": {**whole, "properties": []},
        "no delivery tag": {**whole, "properties": {"body_encoding": "base64"}},
        "delivery info is a text": {**whole, "properties": {**whole["properties"], "delivery_info": "x"}},
        "unknown body encoding": {**whole, "properties": {**whole["properties"], "body_encoding": "nope"}},
        "bad base64": {**whole, "body": "a"},
        "body is a number": {**whole, "body": 7},
        "no headers": {**whole, "headers": {}},
        "headers are a list": {**whole, "headers": [1]},
        "task is a list": message(whole_body, task=["x"]),
        "unknown task": message(whole_body, task="no.such.task"),
        "body not JSON": message(b"\xff\xfe{"),
        "body null": message(None),
        "body no list": message({"a": 1}),
        "body deep": message(b"[" * 5_000),
        "argument of the wrong type": message([[{"a": 1}], {}, NOTHING]),
        "two arguments": message([["a", "b"], {}, NOTHING]),
        "named arguments": message([["a"], {"b": 1}, NOTHING]),
        "a callback": message([["a"], {}, {**NOTHING, "callbacks": [{"task": GENERATE}]}]),
        "a strange id": message([["../../x\n\0"], {}, NOTHING]),
        "giant body": message([["y" * 30_000_000], {}, NOTHING]),
        "pickle": message(b"cos\nsystem\n(S'false'\ntR.", **{"content-type": "application/x-python-serialize"}),
        "unknown charset": message(whole_body, **{"content-encoding": "nope"}),
        "compressed": message(whole_body, headers={"compression": "nope"}),
        "for later": message(whole_body, headers={"eta": "2099-01-01T00:00:00Z"}),
        "for a time that is none": message(whole_body, headers={"eta": "soon"}),
        "expired": message(whole_body, headers={"expires": "2000-01-01T00:00:00Z"}),
        "a limit of time": message(whole_body, headers={"timelimit": ["x", 3]}),
    }
    return raw | {name: json.dumps(value).encode() for name, value in shapes.items()}

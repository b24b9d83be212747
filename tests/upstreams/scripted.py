"""A server that answers as it is told, byte for byte, in whatever protocol: for answers that no good server gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.upstreams.base import Received, Upstream


@dataclass(frozen=True)
class Reply:
    """A whole response. With `cut` the connection ends before the body that was promised does."""

    body: bytes
    status: int = 200
    kind: str = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def sse(*events: Any, done: bool = True) -> Reply:
    """A stream of OpenAI's protocol. What is no text is sent as JSON."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return Reply("".join(f"data: {text}\n\n" for text in [*texts, *(["[DONE]"] if done else [])]).encode())


def messages(*events: Mapping[str, Any]) -> Reply:
    """A stream of Anthropic's protocol."""
    return Reply("".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode())


def whole(body: Any, status: int = 200, **headers: str) -> Reply:
    """An answer that is no stream."""
    return Reply(json.dumps(body).encode(), status, "application/json", headers)


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": choices, **more}


def call(**fragment: Any) -> dict[str, Any]:
    """A chunk with a fragment of a call."""
    return chunk({"tool_calls": [fragment]})


class ScriptedServer(Upstream):
    """`replies` by the name of the model that is asked for; a list is used up, one for each request."""

    def __init__(self, replies: Mapping[str, Reply | Sequence[Reply]] | None = None) -> None:
        self.replies: dict[str, Any] = dict(replies or {})
        super().__init__("")

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(handler.path, headers, body))
        reply = self.replies[body["model"]]
        if isinstance(reply, list):
            reply = reply.pop(0)
        handler.send_response(reply.status)
        handler.send_header("Content-Type", reply.kind)
        handler.send_header("Content-Length", str(len(reply.body) + reply.cut))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)
        handler.close_connection = handler.close_connection or reply.cut

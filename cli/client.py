"""A small client of the HTTP API: streams an answer, and resumes after a broken connection without losing a token."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from gateway.errors import HeadraceError

T = TypeVar("T")

#: How long a server that is away is waited for, and the pause between two tries.
RECONNECT_S, AGAIN_S = 60.0, 1.0
#: Items of one page.
PAGE = 200


class ServerError(HeadraceError):
    """The server answered with an error; the text is its own."""


class ServerAway(ServerError):
    """The server, or what it needs, is away for a while."""


@dataclass
class EventStream:
    """The events of a job up to its end, across broken connections. The first request may create the job."""

    client: httpx.Client
    #: The URL of its events; empty until the job exists.
    url: str = ""
    #: Path and body of the request that creates it.
    path: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    job_id: str = ""
    last_event_id: str = ""

    def __iter__(self) -> Iterator[ServerSentEvent]:
        """Raises: ServerError; httpx.TransportError if no job was created."""
        deadline = 0.0
        while True:
            try:
                for event in self._events():
                    deadline = 0.0
                    if event.data == "[DONE]":
                        return
                    yield event
            except httpx.TransportError:
                if not self.url:
                    raise
            deadline = deadline or time.monotonic() + RECONNECT_S
            if time.monotonic() > deadline:
                raise ServerError(f"The stream {self.url} broke, and the server did not come back.")
            time.sleep(0.2)

    def _events(self) -> Iterator[ServerSentEvent]:
        if self.url:
            headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
            request = self.client.stream("GET", self.url, headers=headers)
        else:
            request = self.client.stream("POST", self.path, json=self.body)
        with request as response:
            try:
                raise_for_error(response)
            except ServerAway:
                if not self.url:
                    raise
                return
            self.job_id = response.headers["X-Job-Id"]
            self.url = self.url or f"/jobs/{self.job_id}/events"
            # httpx_sse yields comments as events without data.
            for event in EventSource(response).iter_sse():
                if event.data:
                    self.last_event_id = event.id or self.last_event_id
                    yield event


@dataclass
class Answer:
    """A streamed answer: iterate it for its text."""

    events: EventStream
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, up to the end. Raises: ServerError; httpx.TransportError if no job was created."""
        for event in self.events:
            yield from self._read(event)

    def cancel(self) -> None:
        """Stop the job."""
        if self.events.job_id:
            self.events.client.delete(f"/jobs/{self.events.job_id}")

    def _read(self, event: ServerSentEvent) -> Iterator[str]:
        data = json.loads(event.data)
        if event.event == "error":
            raise ServerError(data["message"])
        self.usage = data.get("usage") or self.usage
        for choice in data["choices"]:
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
            if text:
                yield text


def chat(client: httpx.Client, model: str, messages: Sequence[Mapping[str, str]], **options: Any) -> Answer:
    """Ask for an answer to a conversation."""
    body = {"messages": list(messages), "stream": True, **options}
    return Answer(EventStream(client, path=f"/models/{model}/chat/completions", body=body))


def complete(client: httpx.Client, model: str, prompt: str, **options: Any) -> Answer:
    """Ask to go on with a text."""
    body = {"prompt": prompt, "stream": True, **options}
    return Answer(EventStream(client, path=f"/models/{model}/completions", body=body))


def pages(
    client: httpx.Client, path: str, name: str, query: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """All items of a list that comes in pages, in its order. Raises: ServerError."""
    cursor: dict[str, str] = {}
    while True:
        response = client.get(path, params={**query, **cursor, "limit": PAGE})
        raise_for_error(response)
        page = response.json()["data"]
        yield from page[name]
        if not page["next_cursor"]:
            return
        cursor = {"cursor": page["next_cursor"]}


def patiently(ask: Callable[[], T]) -> T:
    """What is answered, also by a server that is away for a while.

    Raises: ServerError; httpx.TransportError if it stays away.
    """
    deadline = 0.0
    while True:
        try:
            return ask()
        except (httpx.TransportError, ServerAway):
            deadline = deadline or time.monotonic() + RECONNECT_S
            if time.monotonic() > deadline:
                raise
        time.sleep(AGAIN_S)


def raise_for_error(response: httpx.Response) -> None:
    """Raises: ServerError with the server's own text; ServerAway if it is worth asking again."""
    if response.is_success:
        return
    raise (ServerAway if response.status_code in (502, 503, 504) else ServerError)(message_of(response))


def message_of(response: httpx.Response) -> str:
    """The text of an error."""
    response.read()
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}: {response.text[:200]}"

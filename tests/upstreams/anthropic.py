"""Anthropic's Messages API as api.anthropic.com speaks it, as streams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.upstreams.base import Upstream, count_words, texts, word

#: What the API's newer version does not take.
SAMPLING = {"temperature", "top_p", "top_k"}
ARGUMENTS = '{"city": "Grüße"}'


class AnthropicServer(Upstream):
    """Goes on with a last turn of the assistant."""

    text_event = "content_block_delta"

    def sent_key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def authorized(self, headers: Mapping[str, str]) -> bool:
        self._version = headers["anthropic-version"]
        return super().authorized(headers)

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        kind = {
            400: "invalid_request_error",
            401: "authentication_error",
            404: "not_found_error",
            429: "rate_limit_error",
            529: "overloaded_error",
        }.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_up1"}

    def error_event(self, kind: str) -> tuple[str, str]:
        return "error", json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})

    def is_word(self, data: str) -> bool:
        return json.loads(data)["type"] == "content_block_delta"

    def refusal(self, body: Mapping[str, Any]) -> str:
        if "max_tokens" not in body:
            return "max_tokens: Field required"
        if self._version >= "2026-10-21" and (found := SAMPLING & body.keys()):
            return f"{min(found)}: Extra inputs are not permitted"
        if not 0 <= body.get("temperature", 0) <= 1:
            return "temperature: range: 0..1"
        if any(not stop.strip() for stop in body.get("stop_sequences", ())):
            return "stop_sequences: each stop sequence must contain non-whitespace"
        if len((body.get("metadata") or {}).get("user_id", "")) > 256:
            return "metadata.user_id: String should have at most 256 characters"
        if any(tool["input_schema"].get("type") != "object" for tool in body.get("tools", ())):
            return "tools.0.input_schema.type: Field required"
        for number, tool in enumerate(body.get("tools", ())):
            if found := refused_schema(tool["input_schema"]):
                return f"tools.{number}.custom.input_schema{found}"
        return refused_turns(body["messages"], bool(body.get("tools")))

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        assert path == "/v1/messages", path
        for event in self._message(body):
            yield event["type"], json.dumps(event, ensure_ascii=False)

    def _message(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        messages = body["messages"]
        last = messages[-1]
        prompt = sum(count_words(texts(message["content"])) for message in messages) + count_words(
            texts(body.get("system", ""))
        )
        message = {
            "id": "msg_up1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": prompt,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            },
        }
        yield {"type": "message_start", "message": message}
        results = isinstance(last["content"], list) and last["content"][0]["type"] == "tool_result"
        if body.get("tools") and not results:
            done, reason = 3, "tool_use"
            name = body["tools"][0]["name"]
            yield from _block(
                {"type": "tool_use", "id": "call_1", "name": name, "input": {}},
                [{"type": "input_json_delta", "partial_json": part} for part in ("", ARGUMENTS[:7], ARGUMENTS[7:])],
            )
        else:
            begun = texts(last["content"]) if last["role"] == "assistant" else ""
            first = count_words(begun)
            done = min(self.words - first, body["max_tokens"])
            reason = "end_turn" if first + done == self.words else "max_tokens"
            deltas = [{"type": "text_delta", "text": word(number)} for number in range(first, first + done)]
            yield from _block({"type": "text", "text": ""}, deltas)
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": done},
        }
        yield {"type": "message_stop"}


def refused_schema(schema: Mapping[str, Any]) -> str:
    """What the API says of a schema that it does not take. Deeper in it, both are allowed."""
    if {"anyOf", "oneOf", "allOf"} & schema.keys():
        return ": input_schema does not support oneOf, allOf, or anyOf at the top level"
    if any(not re.fullmatch("[a-zA-Z0-9_.-]{1,64}", name) for name in schema.get("properties") or ()):
        return ".properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"
    return ""


def refused_turns(messages: list[Any], tools: bool) -> str:
    """What the API says of turns that it does not take."""
    if not messages or messages[0]["role"] != "user":
        return "messages: first message must use the user role"
    open_ids: list[str] = []
    known: set[str] = set()
    for number, message in enumerate(messages):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return f"messages.{number}: text content blocks must contain non-whitespace text"
        if message["role"] == "assistant" and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
            return f"messages.{number}: The final block in an assistant message cannot be `thinking`."
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(open_ids):
            return f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after"
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            return f"messages.{number}: tool_result blocks must come first"
        open_ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if open_ids and not tools:
            return "tools: Field required, since there are tool_use blocks"
        if known & set(open_ids) or len(set(open_ids)) < len(open_ids):
            return f"messages.{number}: `tool_use` ids must be unique"
        if any(not re.fullmatch("[a-zA-Z0-9_-]+", text) for text in open_ids):
            return f"messages.{number}.content.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if any(not isinstance(block["input"], dict) for block in blocks if block["type"] == "tool_use"):
            return f"messages.{number}.content.tool_use.input: Input should be a valid dictionary"
        known |= set(open_ids)
    if open_ids:
        return "messages: `tool_use` ids were found without `tool_result` blocks"
    last = messages[-1]
    if last["role"] == "assistant" and texts(last["content"]) != texts(last["content"]).rstrip():
        return "messages: final assistant content cannot end with trailing whitespace"
    return ""


def _block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    yield {"type": "ping"}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}

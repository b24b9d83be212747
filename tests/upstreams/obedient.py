"""OpenAI's protocol as a model speaks it that always does what it is told: it calls the tools that it should, and
answers with an instance of the schema that it is given. For clients, which go by what an answer holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.clients.scenarios import EDIT_FILE, EDIT_QUESTION, EDITED, SAID, USE_ONLY
from tests.upstreams.base import count_words, texts
from tests.upstreams.openai import OpenAIServer, usage

#: Words that a prompt may have.
CONTEXT = 8192
#: What every text in an argument or an instance is.
TEXT = "Grüße aus 東京 🚀"
#: What it has thought, where the question is to be thought about.
THOUGHT = "Let me see."
#: By words in the question: how many tools are called at once.
CALLS = {"do not use any tool": 0, "both calls in this single turn": 2}
#: How many characters a piece of an answer has.
PIECE = 7


class ObedientServer(OpenAIServer):
    """A call a turn, of the first tool that was not called yet; behind all calls text, or JSON if that is asked for."""

    def refusal(self, body: Mapping[str, Any]) -> str:
        """Prompts that are too long, in OpenAI's words."""
        number = sum(count_words(texts(message.get("content"))) for message in body.get("messages", ()))
        if number <= CONTEXT:
            return ""
        return (
            f"This model's maximum context length is {CONTEXT} tokens. However, your messages resulted in {number} "
            "tokens. Please reduce the length of the messages."
        )

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        found = super().error(status, text)
        if "maximum context length" in text:
            return {"error": {**found["error"], "param": "messages", "code": "context_length_exceeded"}}
        return found

    def _chat(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        head = {
            "id": "chatcmpl-up1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": body["model"],
        }

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {**head, "choices": [choice], "usage": None}

        yield chunk({"role": "assistant", "content": None if calls_of(body) else "", "refusal": None})
        if "Think" in question(body):
            for piece in pieces(THOUGHT):
                yield chunk({"reasoning_content": piece})
        for index, function in enumerate(calls_of(body)):
            arguments = json.dumps(instance(function.get("parameters") or {}), ensure_ascii=False)
            number = sum(len(turn.get("tool_calls") or ()) for turn in body["messages"]) + index
            call = {"id": f"call_{number}", "type": "function", "function": {"name": function["name"], "arguments": ""}}
            yield chunk({"tool_calls": [{"index": index, **call}]})
            for piece in pieces(arguments):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        if not calls_of(body):
            for piece in pieces(text_of(body)):
                yield chunk({"content": piece})
        yield chunk({}, "tool_calls" if calls_of(body) else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": usage(9, 7)}


def calls_of(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The functions that are called now."""
    choice = body.get("tool_choice") or "auto"
    functions = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    if choice == "none" or not functions:
        return ()
    if isinstance(choice, dict) and choice.get("type") == "function":
        return [function for function in functions if function["name"] == choice["function"]["name"]]
    if USE_ONLY in question(body):
        chosen = question(body).partition(USE_ONLY)[2].strip().rstrip(".")
        functions = [function for function in functions if function["name"] == chosen]
    called = {call["function"]["name"] for turn in body["messages"] for call in turn.get("tool_calls") or ()}
    new = [function for function in functions if function["name"] not in called]
    if choice == "required":
        return (new or functions)[:1]
    return new[:1] * next((number for words, number in CALLS.items() if words in question(body)), 1)


def question(body: Mapping[str, Any]) -> str:
    """The user's last turn."""
    return next((texts(turn["content"]) for turn in reversed(body["messages"]) if turn["role"] == "user"), "")


def text_of(body: Mapping[str, Any]) -> str:
    """What is said where nothing is called."""
    form = body.get("response_format") or {"type": "text"}
    if form["type"] == "json_schema":
        return json.dumps(instance(form["json_schema"].get("schema") or {}), ensure_ascii=False)
    if form["type"] == "json_object":
        return json.dumps(instance(schema_in(body)), ensure_ascii=False)
    return f"{EDIT_FILE}\n```\n{EDITED}```\n" if EDIT_QUESTION in question(body) else SAID


def schema_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema that stands in the text of a turn, as some clients write it down; of any object, if there is none."""
    decoder = json.JSONDecoder()
    for turn in body["messages"]:
        text = texts(turn.get("content"))
        for at in (at for at, character in enumerate(text) if character == "{"):
            try:
                found, _ = decoder.raw_decode(text, at)
            except ValueError:
                continue
            if isinstance(found, dict) and ("properties" in found or "$ref" in found):
                return found
    return {"type": "object"}


def pieces(text: str) -> list[str]:
    """The text, cut."""
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def instance(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Something that the schema describes, as far as clients' schemas go."""
    root = root or schema
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return instance(target, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return instance(schema[several][0], root)
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        known = schema.get("properties") or {}
        return {name: EDIT_FILE if "path" in name else instance(value, root) for name, value in known.items()}
    if kind == "array":
        return [instance(schema.get("items") or {"type": "string"}, root)] * max(1, schema.get("minItems", 1))
    return {"string": TEXT, "integer": 3, "number": 2.5, "boolean": True, "null": None}[kind]

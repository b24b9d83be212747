"""OpenAI's protocol as api.openai.com speaks it: chat and text completions as streams, and embeddings."""

from __future__ import annotations

import base64
import itertools
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from tests.upstreams.base import Upstream, count_words, texts, word

#: Numbers in a vector.
DIMENSIONS = 8
ARGUMENTS = '{"city": "Grüße"}'


class OpenAIServer(Upstream):
    """Knows the continuation `prefix` too, as DeepSeek's server does."""

    def sent_key(self, headers: Mapping[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        kind, code = {401: ("invalid_request_error", "invalid_api_key"), 429: ("requests", "rate_limit_exceeded")}.get(
            status, ("server_error" if status >= 500 else "invalid_request_error", None)
        )
        return {"error": {"message": text, "type": kind, "param": None, "code": code}}

    def error_event(self, kind: str) -> tuple[str, str]:
        text = "The server had an error while processing your request. Sorry about that!"
        return "", json.dumps({"error": {"message": text, "type": kind, "param": None, "code": None}})

    def whole(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert path.endswith("/embeddings"), path
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = []
        for index, text in enumerate(inputs):
            numbers = vector(text, body.get("dimensions") or DIMENSIONS)
            packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
            encoded = packed if body.get("encoding_format") == "base64" else numbers
            data.append({"object": "embedding", "index": index, "embedding": encoded})
        tokens = sum(map(count_words, inputs))
        return {
            "object": "list",
            "data": data,
            "model": body["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def is_word(self, data: str) -> bool:
        if data == "[DONE]":
            return False
        choices = json.loads(data)["choices"]
        delta = choices[0].get("delta", {}) if choices else {}
        return bool(choices and (choices[0].get("text") or delta.get("content") or delta.get("tool_calls")))

    def is_count(self, data: str) -> bool:
        return data != "[DONE]" and not json.loads(data).get("choices")

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        make = self._completion if path.endswith("/v1/completions") else self._chat
        for chunk in make(body):
            yield "", json.dumps(chunk, ensure_ascii=False)
        yield "", "[DONE]"

    def _chat(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        messages = body["messages"]
        head = {
            "id": "chatcmpl-up1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": body["model"],
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
        }

        def chunk(index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            return {**head, "choices": [choice], "usage": None}

        n = body.get("n") or 1
        for index in range(n):
            yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
        done = 0
        if body.get("tools") and messages[-1]["role"] != "tool":
            done = 3
            function = body["tools"][0]["function"]["name"]
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": function, "arguments": ""}}
            yield chunk(0, {"tool_calls": [call]})
            for part in (ARGUMENTS[:7], ARGUMENTS[7:]):
                yield chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            yield chunk(0, {}, "tool_calls")
        else:
            begun = texts(messages[-1]["content"]) if messages[-1].get("prefix") else ""
            first = count_words(begun)
            total = min(self.words - first, body.get("max_tokens") or body.get("max_completion_tokens") or self.words)
            for number, index in itertools.product(range(first, first + total), range(n)):
                shown = {"content": [{"token": word(number), "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
                yield chunk(index, {"content": word(number)}, logprobs=shown if body.get("logprobs") else None)
            done = total * n
            for index in range(n):
                yield chunk(index, {}, "stop" if first + total == self.words else "length")
        if (body.get("stream_options") or {}).get("include_usage"):
            prompt = sum(count_words(texts(message.get("content"))) for message in messages)
            yield {**head, "choices": [], "usage": usage(prompt, done)}

    def _completion(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        head = {"id": "cmpl-up1", "object": "text_completion", "created": 1_700_000_000, "model": body["model"]}
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        total = min(self.words, body.get("max_tokens") or 16)
        count = len(prompts) * (body.get("n") or 1)
        for number, index in itertools.product(range(total), range(count)):
            choice = {"text": word(number), "index": index, "logprobs": None, "finish_reason": None}
            yield {**head, "choices": [choice], "usage": None}
        for index in range(count):
            finish = "stop" if total == self.words else "length"
            choice = {"text": "", "index": index, "logprobs": None, "finish_reason": finish}
            yield {**head, "choices": [choice], "usage": None}
        yield {**head, "choices": [], "usage": usage(sum(map(count_words, prompts)), total * count)}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def vector(text: str, size: int) -> list[float]:
    """Some numbers that depend on the text."""
    return [((sum(text.encode()) + 7 * i) % 31) / 32 for i in range(size)]

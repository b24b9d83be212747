"""Chunks of OpenAI's protocol as pieces of answers, in all the shapes in which servers send them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from gateway.store.codec import as_count, is_integer, mended
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import Said
from workers.providers.protocols import wire
from workers.providers.protocols.pieces import Answer, Token

#: What is known of a delta; all else is beside it.
_KNOWN = ("role", "content", "tool_calls", "function_call")
#: Words of other servers for how an answer ended, in OpenAI's. Any other word counts as `stop`.
_FINISH = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
#: DeepSeek's name for the tokens that it had in its cache.
_CACHED = "prompt_cache_hit_tokens"
#: Words for an answer that has not come to its end.
_BROKEN = ("error", "insufficient_system_resource")
#: How a token is written that is no text by itself, where there is no list of bytes.
_IN_HEX = re.compile(r"bytes:(\\x[0-9a-fA-F]{2})+")
#: Likely tokens that are read of one place.
MAX_LIKELY = 20
#: The logarithm of a probability that is none.
_NEVER = -9999.0


class Chunks:
    """Reads the stream of one call. A server that ends without a finish reason, but in good order, has finished."""

    def __init__(self, ask: UpstreamRequest, provider: str) -> None:
        self._answers = [Answer(index, provider, before=ask.before) for index in ask.indexes]
        self._is_chat = ask.kind == "chat"
        #: The stream has said that it is over; it may be, since the last that came was a count.
        self._over = self._counted = False

    def take(self, event: wire.Event) -> Iterator[UpstreamDelta]:
        """The pieces of one event. Raises: Malformed, Said."""
        if event.data.strip().startswith(wire.DONE):
            self._over = True
        value = wire.read(event.data) if event.data.strip() and not self._over else None
        if event.name == "error":
            raise Said(value)
        self._over = self._over or event.name == wire.WHOLE
        yield UpstreamDelta()
        for chunk in value if isinstance(value, list) else [value]:
            if isinstance(chunk, Mapping):
                yield from self._chunk(chunk, whole=event.name == wire.WHOLE)

    def end(self) -> Iterator[UpstreamDelta]:
        """What is left to say when the stream has ended."""
        if self._over or self._counted:
            yield from (answer.end() for answer in self._answers if answer.begun and not answer.ended)

    def _chunk(self, chunk: Mapping[str, Any], *, whole: bool) -> Iterator[UpstreamDelta]:
        choices = chunk.get("choices")
        if chunk.get("error") or chunk.get("object") == "error" or (whole and not choices):
            raise Said(chunk)
        if usage := _usage(chunk.get("usage")):
            yield usage
        if isinstance(choices, Mapping):
            choices = [choices]
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, Mapping) and (answer := self._answer(choice.get("index"), position)):
                yield self._piece(answer, choice)
        if choices or usage:
            self._counted = not choices and any(answer.begun for answer in self._answers)

    def _answer(self, index: Any, position: int) -> Answer | None:
        """The answer that a choice is of; None if it was not asked for."""
        number = as_count(index)
        if number is None:
            number = position if len(self._answers) > 1 else 0
        return self._answers[number] if number < len(self._answers) else None

    def _piece(self, answer: Answer, choice: Mapping[str, Any]) -> UpstreamDelta:
        if choice.get("error"):
            raise Said(choice)
        delta = next(
            (part for name in ("delta", "message") if isinstance(part := choice.get(name), Mapping) and part), {}
        )
        text = text_of(delta.get("content")) or text_of(choice.get("text"))
        if not self._is_chat:
            text = text or text_of(delta.get("refusal"))
        return answer.piece(
            text=text,
            calls=_calls(delta),
            extra=_extra(delta) if self._is_chat else None,
            logprobs=_logprobs(choice.get("logprobs")),
            finish=_finish(choice),
        )


def text_of(content: Any) -> str:
    """The text in a content: that, or parts of it."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(text_of, content))
    if isinstance(content, Mapping):
        return text_of(content.get("text")) if content.get("type", "text") in ("text", "output_text") else ""
    return str(content) if isinstance(content, int | float) and not isinstance(content, bool) else ""


def _extra(delta: Mapping[str, Any]) -> dict[str, Any]:
    """What is beside the text and the calls, with the thoughts that some servers send as parts of the content.

    Others call them `reasoning`: they are shown under both names, and go back under the one that their server knows.
    """
    extra = {name: value for name, value in delta.items() if name not in _KNOWN and value is not None}
    if isinstance(thought := extra.get("reasoning"), str):
        extra.setdefault("reasoning_content", thought)
    content = delta.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and part.get("type") == "thinking":
            extra["reasoning_content"] = f"{extra.get('reasoning_content', '')}{text_of(part.get('thinking'))}"
    return extra


def _calls(delta: Mapping[str, Any]) -> list[Any]:
    """Fragments of calls; the form before there were tools is one, too."""
    calls = delta.get("tool_calls")
    if isinstance(calls, Mapping):
        calls = [calls]
    if not isinstance(calls, list):
        calls = []
    old = delta.get("function_call")
    return [*calls, {"index": 0, "function": old}] if isinstance(old, Mapping) else calls


def _finish(choice: Mapping[str, Any]) -> str | None:
    """How the answer ended, in OpenAI's words; None if it has not. Raises: Said."""
    reason = choice.get("finish_reason")
    if reason in _BROKEN:
        raise Said({"message": f"The answer ended with {reason}."})
    return _FINISH.get(str(reason).lower(), "stop") if reason else None


def _usage(usage: Any) -> UpstreamDelta | None:
    """Tokens, as far as they are numbers."""
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = (usage.get(name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    counts = UpstreamDelta(
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        cached_tokens=as_count(prompt.get("cached_tokens") if isinstance(prompt, Mapping) else usage.get(_CACHED)),
        reasoning_tokens=as_count(completion.get("reasoning_tokens")) if isinstance(completion, Mapping) else None,
    )
    return None if counts == UpstreamDelta() else counts


def _logprobs(found: Any) -> list[Token]:
    """The tokens of a piece."""
    if not isinstance(found, Mapping):
        return []
    tokens = found.get("tokens")
    if isinstance(tokens, list):
        values, likely = (_listed(found.get(name)) for name in ("token_logprobs", "top_logprobs"))
        rows = zip_longest(tokens, values, likely)
        entries: Iterable[Any] = ({"token": a, "logprob": b, "top_logprobs": _by_text(c)} for a, b, c in rows)
    else:
        entries = _listed(found.get("content"))
    return [token for entry in entries if (token := _token(entry, likely=_likely(entry)))]


def _likely(entry: Any) -> list[Token]:
    others = _listed(entry.get("top_logprobs")) if isinstance(entry, Mapping) else []
    return [token for other in others[:MAX_LIKELY] if (token := _token(other))]


def _token(entry: Any, *, likely: Sequence[Token] = ()) -> Token | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("token"), str):
        return None
    text = mended(entry["token"])
    return Token(text, _logprob(entry.get("logprob")), _bytes(text, entry.get("bytes")), likely)


def _by_text(likely: Any) -> list[dict[str, Any]]:
    """Likely tokens of a completion, which are by their texts, as those of a chat, the best first."""
    found = likely.items() if isinstance(likely, Mapping) else ()
    entries = [{"token": text, "logprob": logprob} for text, logprob in found]
    return sorted(entries, key=lambda entry: -_logprob(entry["logprob"]))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _bytes(token: str, listed: Any) -> bytes:
    """The bytes of a token: as they are said, or as the text says that has no other way to, or those of the text."""
    if isinstance(listed, list) and all(is_integer(byte, 0, 255) for byte in listed):
        return bytes(listed)
    if _IN_HEX.fullmatch(token):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()


def _logprob(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else _NEVER

"""Events of Anthropic's protocol as pieces of an answer, in all the shapes in which servers send them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs.answer.tool_calls import as_text
from gateway.store.codec import as_count
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import Said
from workers.providers.protocols import wire
from workers.providers.protocols.pieces import Answer

#: Their words for how an answer ended, in OpenAI's; a new one counts as `stop`.
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class PrefixJoiner:
    """Where a continued answer joins its beginning.

    The API takes no beginning that ends with white space: that is left out, and dropped if the model repeats it.
    """

    def __init__(self, before: str) -> None:
        self.begun = before.rstrip()
        self._cut = before[len(self.begun) :]

    def join(self, text: str) -> str:
        """A text as it goes on behind the beginning."""
        while self._cut and text.startswith(self._cut[0]):
            self._cut, text = self._cut[1:], text[1:]
        if text:
            self._cut = ""
        return text


@dataclass
class _Block:
    """A block of the answer that has begun."""

    kind: str
    #: Of a call: its number, and whether it has arguments.
    number: int = 0
    filled: bool = False
    #: Of a thought: its text, and the API's signature.
    text: list[str] = field(default_factory=list)
    signature: str = ""


class Blocks:
    """Reads the stream of one call.

    Thoughts go to the client as `reasoning_content` while they come, and then whole, with their signature, as an entry
    of `thinking_blocks`: that is what the API wants back.
    """

    def __init__(self, ask: UpstreamRequest, provider: str, seam: PrefixJoiner) -> None:
        self._answer = Answer(ask.indexes[0], provider)
        self._is_chat = ask.kind == "chat"
        self._seam = seam
        self._blocks: dict[int, _Block] = {}
        self._last = self._num_calls = 0
        #: The stream has said that it is over.
        self._over = False

    def take(self, event: wire.Event) -> Iterator[UpstreamDelta]:
        """The pieces of one event. Raises: Malformed, Said."""
        yield UpstreamDelta()
        data = event.data.strip()
        if not data or data.startswith(wire.DONE):
            return
        value = wire.read(data)
        payload = value if isinstance(value, Mapping) else {}
        kind = payload.get("type") or event.name
        if "error" in (event.name, kind) or payload.get("error"):
            raise Said(value)
        if kind == "message_start":
            yield _usage(_part(payload, "message").get("usage"), begins=True)
        elif kind == "content_block_start":
            yield from self._start(self._block_index(payload), _part(payload, "content_block"))
        elif kind == "content_block_delta":
            yield from self._add(self._block_index(payload), _part(payload, "delta"))
        elif kind == "content_block_stop":
            yield from self._stop(self._block_index(payload))
        elif kind == "message_delta":
            yield from self._end(_part(payload, "delta").get("stop_reason"), payload.get("usage"))
        elif kind == "message_stop":
            self._over = True
        elif event.name == wire.WHOLE:
            yield from self._whole(value, payload)

    def end(self) -> Iterator[UpstreamDelta]:
        """What is left to say when the stream has ended."""
        if self._over and self._answer.begun and not self._answer.ended:
            yield self._answer.end()

    def _whole(self, value: Any, message: Mapping[str, Any]) -> Iterator[UpstreamDelta]:
        """An answer that did not come as a stream."""
        content = message.get("content")
        if not isinstance(content, list):
            raise Said(value)
        for block_index, block in enumerate(content):
            if isinstance(block, Mapping):
                yield from self._start(block_index, block)
                yield from self._stop(block_index)
        self._over = True
        yield _usage(message.get("usage"), begins=True)
        yield from self._end(message.get("stop_reason"), message.get("usage"))

    def _block_index(self, event: Mapping[str, Any]) -> int:
        """Which block an event is about: the last one, if it does not say."""
        block_index = as_count(event.get("index"))
        self._last = self._last if block_index is None else block_index
        return self._last

    def _start(self, block_index: int, content: Mapping[str, Any]) -> Iterator[UpstreamDelta]:
        block = self._blocks[block_index] = _Block(str(content.get("type")))
        if block.kind == "text":
            yield from self._add(block_index, {"type": "text_delta", "text": content.get("text")})
        elif block.kind == "tool_use":
            block.number, self._num_calls = self._num_calls, self._num_calls + 1
            arguments = as_text(content["input"]) if content.get("input") else ""
            block.filled = bool(arguments)
            function = {"name": content.get("name"), "arguments": arguments}
            yield self._call(block, {"id": content.get("id"), "type": "function", "function": function})
        elif block.kind == "thinking":
            block.signature = _word(content.get("signature"))
            yield from self._add(block_index, {"type": "thinking_delta", "thinking": content.get("thinking")})
        elif block.kind == "redacted_thinking":
            yield self._beside({"thinking_blocks": [{"type": block.kind, "data": content.get("data")}]})

    def _add(self, block_index: int, delta: Mapping[str, Any]) -> Iterator[UpstreamDelta]:
        block = self._blocks.get(block_index)
        kind = delta.get("type")
        if kind == "input_json_delta" and block is not None and block.kind == "tool_use":
            arguments = as_text(delta.get("partial_json"))
            block.filled = block.filled or bool(arguments)
            yield self._call(block, {"function": {"arguments": arguments}})
        elif kind == "thinking_delta":
            thought = _word(delta.get("thinking"))
            if block is not None:
                block.text.append(thought)
            yield self._beside({"reasoning_content": thought})
        elif kind == "signature_delta" and block is not None:
            block.signature += _word(delta.get("signature"))
        elif kind != "input_json_delta" and (text := _word(delta.get("text"))):
            yield self._answer.piece(text=self._seam.join(text))

    def _stop(self, block_index: int) -> Iterator[UpstreamDelta]:
        block = self._blocks.pop(block_index, None)
        if block is not None and block.kind == "tool_use" and not block.filled:
            yield self._call(block, {"function": {"arguments": "{}"}})  # a call without arguments has none at all
        if block is not None and block.kind == "thinking":
            text = wire.Halves().join("".join(block.text), final=True)
            thought = {"type": block.kind, "thinking": text, "signature": block.signature}
            yield self._beside({"thinking_blocks": [thought]})

    def _end(self, reason: Any, usage: Any) -> Iterator[UpstreamDelta]:
        yield _usage(usage)
        if isinstance(reason, str) and reason:
            yield self._answer.piece(finish=FINISH.get(reason, "stop"))

    def _call(self, block: _Block, fragment: dict[str, Any]) -> UpstreamDelta:
        return self._answer.piece(calls=[{"index": block.number, **fragment}])

    def _beside(self, extra: dict[str, Any]) -> UpstreamDelta:
        return self._answer.piece(extra=extra if self._is_chat else None)


def _usage(usage: Any, *, begins: bool = False) -> UpstreamDelta:
    """Tokens as far as they are said; the prompt's are with those that went into the provider's cache, or came from it.

    What a stream says of its answer when it `begins` is not the count.
    """
    counts = usage if isinstance(usage, Mapping) else {}
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    prompt = [as_count(counts.get(name)) or 0 for name in names]
    details = counts.get("output_tokens_details")
    thoughts = details.get("thinking_tokens") if isinstance(details, Mapping) else None
    return UpstreamDelta(
        prompt_tokens=sum(prompt) or (as_count(counts.get(names[0])) if begins else None),
        completion_tokens=None if begins else as_count(counts.get("output_tokens")),
        cached_tokens=prompt[2] or None,
        reasoning_tokens=None if begins else as_count(thoughts) or None,
    )


def _part(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = event.get(name)
    return part if isinstance(part, Mapping) else {}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""

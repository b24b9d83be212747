"""How the answers of one model are read: its formats, found in its chat template, or named by the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from gateway.errors import InvalidRequest
from gateway.jobs.answer import extras
from gateway.jobs.journal import Choice
from gateway.jobs.record import Job
from schemas.base.tool_choice import chosen
from workers.answers.channels import MARKERS as CHANNEL_MARKERS
from workers.answers.channels import Channels
from workers.answers.formats import CALL_FORMATS, CallFormat, ReasoningFormat, call_format, reasoning_format
from workers.answers.parser import Parser, Reading
from workers.answers.pieces import REASONING, call_id
from workers.answers.reader import AnswerParser, Reader
from workers.tokenizers.detokenizer import IncrementalDetokenizer
from workers.tokenizers.load import Tokenizer

#: Tokens at the end of a prompt that are looked at: the template may begin the answer there.
_TAIL = 32


class ModelAnswers:
    """What a model's answers may hold. `tools` and `reasoning` name formats; empty: as its template shows."""

    def __init__(self, tokenizer: Tokenizer, *, tools: str = "", reasoning: str = "") -> None:
        self._tokenizer = tokenizer
        self.calls: CallFormat | None = call_format(tokenizer.template_texts, tools)
        self.reasoning: ReasoningFormat | None = reasoning_format(tokenizer.template_texts, reasoning)
        markers = {*_markers(self.calls), *_thought_markers(self.reasoning)}
        self._control = frozenset(markers & tokenizer.control.keys())
        self._by_id = {tokenizer.control[name]: name for name in self._control}

    def require(self, request: Mapping[str, Any], model_id: str) -> None:
        """Raises: InvalidRequest if calls would have to be read, and nobody knows how the model writes them."""
        if tools_of(request) and self.calls is None:
            raise InvalidRequest.of(
                {
                    "tools": [
                        f"It is not known how {model_id} writes tool calls: its chat template shows none of the "
                        f"formats {', '.join(CALL_FORMATS)}. Leave tools out, or name its format in the catalog, as "
                        "tool_format."
                    ]
                }
            )

    def reader(self, job: Job, index: int, prompt: Sequence[int], before: Choice | None = None) -> Reader:
        """A reader of one answer to a prompt; another model may have begun the answer with `before`."""
        request = job.request
        detokenizer = IncrementalDetokenizer(self._tokenizer, list(request.get("stop") or ()))
        tools = tools_of(request)
        channels = self.calls is not None and self.calls.style == "channels"
        if "messages" not in request or not (tools or self.reasoning or channels):
            return Reader(detokenizer)
        continued = before is not None and bool(before.text or before.tool_calls)
        thought = before is not None and bool(before.extra) and not continued
        reading = Reading(
            calls=self.calls if tools or channels else None,
            reasoning=None if continued else self.reasoning,
            opened=self.opens_reasoning(prompt) or thought,
            tools={tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools},
            control=self._control,
        )
        first = 1 + max((call.get("index", 0) for call in before.tool_calls), default=-1) if before else 0
        parser: AnswerParser = (Channels if channels else Parser)(
            reading, lambda number: call_id(job.id, index, number), first_call=first
        )
        most_calls = 1 if request.get("parallel_tool_calls") is False else 0
        return Reader(detokenizer, parser, markers=self._by_id, most_calls=most_calls)

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether the template has begun the reasoning at the end of the prompt."""
        return self.reasoning is not None and self._end_of(prompt).rstrip().endswith(self.reasoning.open)

    def begun(self, before: Choice, prompt: Sequence[int]) -> list[int]:
        """What another model wrote of an answer, as this one would have written it, in tokens."""
        thoughts = extras.merge(before.extra).get(REASONING)
        ids: list[int] = []
        if self.reasoning is not None:
            opened = self.opens_reasoning(prompt)
            if thoughts and isinstance(thoughts, str):
                ids += [] if opened else self._spelled(self.reasoning.open)
                ids += self._tokenizer.encode(thoughts)
                opened = True
            if opened and before.text:
                ids += self._spelled(self.reasoning.close)
        return ids + (self._tokenizer.encode(before.text) if before.text else [])

    def _spelled(self, marker: str) -> list[int]:
        known = self._tokenizer.control.get(marker)
        return self._tokenizer.encode(marker) if known is None else [known]

    def _end_of(self, prompt: Sequence[int]) -> str:
        text = b"".join(
            self._names[token_id].encode() if token_id in self._names else self._tokenizer.token_bytes(token_id)
            for token_id in prompt[-_TAIL:]
        )
        return text.decode("utf-8", "replace")

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token_id: name for name, token_id in self._tokenizer.control.items()}


def tools_of(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions that the model may call, as the request has them. One that must be called hides no other."""
    choice = request.get("tool_choice")
    tools = [] if choice == "none" else list(request.get("tools") or ())
    names = chosen(choice) if isinstance(choice, Mapping) and "allowed_tools" in choice else None
    return tools if names is None else [tool for tool in tools if tool["function"]["name"] in names]


def _markers(form: CallFormat | None) -> Sequence[str]:
    if form is None:
        return ()
    if form.style == "channels":
        return CHANNEL_MARKERS
    return (*form.opens, *form.around, *form.separators, form.close)


def _thought_markers(form: ReasoningFormat | None) -> Sequence[str]:
    return (form.open, form.close) if form else ()

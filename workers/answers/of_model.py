"""How the answers of one model are made and read: a plan for each request, and a reader for each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import InvalidRequest
from gateway.jobs.answer import extras
from gateway.jobs.journal import Choice
from gateway.jobs.record import Job
from schemas.base.tool_choice import chosen, is_forced
from workers.answers.channels import Channels
from workers.answers.formats import CALL_FORMATS
from workers.answers.model_formats import ModelFormats
from workers.answers.parser import Parser, Reading
from workers.answers.pieces import REASONING, call_id
from workers.answers.plan import Plan, plan_of
from workers.answers.reader import AnswerParser, Reader
from workers.tokenizers.detokenizer import IncrementalDetokenizer


class ModelAnswers(ModelFormats):
    """Makes plans and readers of a model's answers."""

    def require(self, request: Mapping[str, Any], model_id: str) -> None:
        """Raises: InvalidRequest if calls would have to be read, and nobody knows how the model writes them."""
        if tools_of(request) and self.calls is None and not is_forced(request.get("tool_choice")):
            raise InvalidRequest.of(
                {
                    "tools": [
                        f"It is not known how {model_id} writes tool calls: its chat template shows none of the "
                        f"formats {', '.join(CALL_FORMATS)}. Leave tools out, make it call one by tool_choice, or name "
                        "its format in the catalog, as tool_format."
                    ]
                }
            )

    def plan(self, request: Mapping[str, Any], prompt: Sequence[int]) -> Plan:
        """How the answer to a prompt is to be made. Raises: InvalidRequest if that can't be guaranteed."""
        return plan_of(request, self, prompt)

    def reader(self, job: Job, index: int, plan: Plan, before: Choice | None = None) -> Reader:
        """A reader of one answer; another model may have begun the answer with `before`."""
        request = job.request
        detokenizer = IncrementalDetokenizer(self._tokenizer, list(request.get("stop") or ()))
        tools = tools_of(request)
        channels = plan.calls is not None and plan.calls.style == "channels"
        if "messages" not in request or not (tools or self.reasoning or channels):
            return Reader(detokenizer)
        continued = before is not None and bool(before.text or before.tool_calls)
        thought = before is not None and bool(before.extra) and not continued
        reading = Reading(
            calls=plan.calls if tools or channels else None,
            reasoning=None if continued else self.reasoning,
            opened=plan.opened or thought,
            tools={tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools},
            control=self._control,
        )
        first = 1 + max((call.get("index", 0) for call in before.tool_calls), default=-1) if before else 0
        parser: AnswerParser = (Channels if channels else Parser)(
            reading, lambda number: call_id(job.id, index, number), first_call=first
        )
        own = self.calls is not None and self.calls.style == "channels"
        begun = "" if (before and before.text) or own != channels else "".join(plan.prefix)
        most_calls = 1 if request.get("parallel_tool_calls") is False else 0
        return Reader(
            detokenizer,
            parser,
            markers=self._by_id,
            most_calls=most_calls,
            begun=begun,
        )

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


def tools_of(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions that the model may call, as the request has them. One that must be called hides no other."""
    choice = request.get("tool_choice")
    tools = [] if choice == "none" else [tool for tool in request.get("tools") or () if "function" in tool]
    names = chosen(choice) if isinstance(choice, Mapping) and "allowed_tools" in choice else None
    return tools if names is None else [tool for tool in tools if tool["function"]["name"] in names]

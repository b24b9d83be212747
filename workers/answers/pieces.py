"""What one push of an answer adds up to: pieces of content, of reasoning, and fragments of tool calls."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs.answer import extras, tool_calls

#: The field of messages and deltas that holds reasoning.
REASONING = "reasoning_content"


@dataclass
class Pieces:
    """Text of an answer that became certain, apart by what it is."""

    text: str = ""
    reasoning: str = ""
    #: Fragments of calls in OpenAI's form, see `gateway/jobs/answer/tool_calls.py`.
    calls: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Pieces) -> None:
        """Add what came later."""
        self.text += other.text
        self.reasoning += other.reasoning
        self.calls += other.calls

    def without(self, stray: re.Pattern[str]) -> Pieces:
        """The same without what matches."""
        for call in self.calls:
            call["function"]["arguments"] = stray.sub("", call["function"]["arguments"])
        return Pieces(stray.sub("", self.text), stray.sub("", self.reasoning), self.calls)

    def beyond(self, text: str, extra: Iterable[Mapping[str, Any]], calls: Iterable[Mapping[str, Any]]) -> Pieces:
        """What is left of a whole answer after what was published: its text, extras and fragments of calls."""
        thought = extras.merge(extra).get(REASONING) or ""
        published = {call["index"]: call for call in tool_calls.merge(calls)}
        left = []
        for call in tool_calls.merge(self.calls):
            known = published.get(call["index"])
            if known is None:
                left.append(call)
            elif more := call["function"]["arguments"][len(known.get("function", {}).get("arguments", "")) :]:
                left.append({"index": call["index"], "function": {"arguments": more}})
        return Pieces(self.text[len(text) :], self.reasoning[len(thought) :], left)


def call_id(job_id: str, choice: int, number: int) -> str:
    """The id of a call: the same one in each life of its job."""
    return f"call_{hashlib.blake2b(f'{job_id}/{choice}/{number}'.encode(), digest_size=12).hexdigest()}"


class CallWriter:
    """Writes the calls of one answer as fragments, numbered from `first`."""

    def __init__(self, new_id: Callable[[int], str], first: int = 0) -> None:
        self._new_id = new_id
        self._number = first - 1
        #: Calls that have ended.
        self.ended = 0
        #: A call is open: its arguments may go on.
        self.is_open = False
        self._fragments: list[dict[str, Any]] = []

    @property
    def begun(self) -> bool:
        """Whether there was any call."""
        return self.is_open or self.ended > 0

    def begin(self, name: str) -> None:
        """Begin a call."""
        self._number += 1
        self.is_open = True
        function = {"name": name, "arguments": ""}
        self._fragments.append(
            {"index": self._number, "id": self._new_id(self._number), "type": "function", "function": function}
        )

    def arguments(self, text: str) -> None:
        """Go on with the arguments of the open call."""
        if self._fragments and self._fragments[-1]["index"] == self._number:
            self._fragments[-1]["function"]["arguments"] += text
        elif text:
            self._fragments.append({"index": self._number, "function": {"arguments": text}})

    def end(self) -> None:
        """End the open call."""
        if self.is_open:
            self.is_open = False
            self.ended += 1

    def take(self) -> list[dict[str, Any]]:
        """The fragments since the last time."""
        found, self._fragments = self._fragments, []
        return found

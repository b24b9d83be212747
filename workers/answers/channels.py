"""Reads answers of gpt-oss ("harmony"): a list of messages, each with a channel, and some for a function.

`<|channel|>analysis<|message|>...<|end|><|start|>assistant to=functions.f<|channel|>commentary<|message|>{}<|call|>`:
`analysis` is reasoning, `final` and `commentary` are content, and what is sent to a function is a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from workers.answers.parser import Reading
from workers.answers.pieces import CallWriter, Pieces
from workers.answers.scanning import Markers

#: Most characters of a message's head.
MAX_HEAD = 512
_START, _MESSAGE = "<|start|>", "<|message|>"
_IN_HEAD = ("<|channel|>", "<|constrain|>")
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKERS = (_START, _MESSAGE, *_IN_HEAD, *_ENDS)
_RECIPIENT = re.compile(r"to=\s*([\w.-]+)")


class Channels:
    """See `Parser` in `workers/answers/parser.py`."""

    def __init__(self, reading: Reading, new_id: Callable[[int], str], *, first_call: int = 0) -> None:
        self.writer = CallWriter(new_id, first_call)
        self._takes_calls = reading.calls is not None and bool(reading.tools)
        spelled = reading.spelled
        self._start, self._message = spelled(_START), spelled(_MESSAGE)
        self._parts = {spelled(marker): " " + marker for marker in _IN_HEAD}
        self._ends = frozenset(map(spelled, _ENDS))
        self._all = Markers((self._start, self._message, *self._parts, *self._ends))
        self._tools = reading.tools
        #: What the open message is: `head` in a head, `start` where one may begin without a marker, empty between two.
        self._kind = "start"
        self._stray = reading.stray
        self._head: list[str] = []
        self._arguments = False
        self._tail = ""

    @property
    def reasons(self) -> bool:
        """Whether reasoning is open."""
        return self._kind == "analysis"

    def feed(self, text: str, *, final: bool = False) -> Pieces:
        """Add text. Returns what became certain; at the end that is all of it."""
        text, pieces = self._tail + text, Pieces()
        marker = " "
        while marker:
            before, marker, text = self._all.split(text, final=final)
            self._take(before, pieces)
            if marker:
                self._found(marker)
        self._tail = text
        if final and self._kind == "start":
            pieces.text += "".join(self._head)
        pieces.calls += self.writer.take()
        return pieces.without(self._stray) if self._stray else pieces

    def _take(self, text: str, pieces: Pieces) -> None:
        if not text:
            return
        if self._kind == "head":
            self._head.append(text)
            if sum(map(len, self._head)) > MAX_HEAD:
                pieces.text += "".join(part for part in self._head if not part.startswith(" <|"))
                self._kind, self._head = "", []
        elif self._kind == "start":
            self._head.append(text)
            head = "".join(self._head)
            if head.lstrip()[:3] != "to="[: len(head.lstrip())] or len(head) > MAX_HEAD:
                pieces.text += "".join(self._head)
                self._kind, self._head = "", []
        elif self._kind == "analysis":
            pieces.reasoning += text
        elif self._kind == "call":
            self._arguments = self._arguments or bool(text)
            self.writer.arguments(text)
        else:
            pieces.text += text

    def _found(self, marker: str) -> None:
        if marker == self._message:
            self._begin("".join(self._head))
        elif marker in self._parts:
            self._end()
            if self._kind == "start":
                self._kind = "head"
            elif self._kind != "head":
                self._kind, self._head = "head", []
            self._head.append(self._parts[marker])
        else:
            self._end()
            self._kind, self._head = ("head" if marker == self._start else ""), []

    def _begin(self, head: str) -> None:
        recipient = _RECIPIENT.search(head)
        name = recipient[1] if recipient and self._takes_calls else ""
        if name.startswith("functions.") or name in self._tools:
            self._kind, self._arguments = "call", False
            self.writer.begin(name.removeprefix("functions."))
        else:
            self._kind = "analysis" if "<|channel|>analysis" in head else "content"
        self._head = []

    def _end(self) -> None:
        if self._kind == "call":
            self.writer.arguments("" if self._arguments else "{}")
            self.writer.end()
            self._kind = ""

"""Reads an answer as it comes: what is content, reasoning, or a tool call. A pure function of the text so far.

Control tokens have no text: they are given by name, marked with a character that is in no text (`control`). What can't
be read as a call is content. Space around reasoning and calls belongs to neither and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from workers.answers.bodies import Body, JsonCall, NamedCall, is_name
from workers.answers.formats import CallFormat, ReasoningFormat
from workers.answers.pieces import CallWriter, Pieces
from workers.answers.pythonic import PythonicCall
from workers.answers.scanning import Markers
from workers.answers.tagged import TaggedCall

#: Stands before the name of a control token.
CONTROL = "\ufdd0"
_SPACE = " \t\r\n"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an answer may hold."""

    calls: CallFormat | None = None
    reasoning: ReasoningFormat | None = None
    #: The prompt has begun the reasoning.
    opened: bool = False
    #: The functions by name, with the schemas of their parameters.
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Names of markers that are control tokens in this vocabulary.
    control: frozenset[str] = frozenset()

    @cached_property
    def stray(self) -> re.Pattern[str] | None:
        """What of control tokens must not be left in any text; None without any."""
        return re.compile("|".join(re.escape(CONTROL + marker) for marker in self.control)) if self.control else None

    def spelled(self, marker: str) -> str:
        """A marker as the parser sees it."""
        return CONTROL + marker if marker in self.control else marker


class Parser:
    """For answers whose calls and reasoning stand between markers."""

    def __init__(self, reading: Reading, new_id: Callable[[int], str], *, first_call: int = 0) -> None:
        self.writer = CallWriter(new_id, first_call)
        self._tools = reading.tools
        self._pieces = Pieces()
        spelled = reading.spelled
        call, thought = reading.calls, reading.reasoning
        self._form = call and replace(
            call,
            opens=tuple(map(spelled, call.opens)),
            close=spelled(call.close),
            separators=tuple(map(spelled, call.separators)),
        )
        opens = self._form.opens if self._form else ()
        # Control tokens that mean nothing where they stand are left out, since they have no text.
        self._stray = reading.stray
        silent = {CONTROL + marker for marker in reading.control} - set(opens) | (
            set(map(spelled, call.around)) if call else set()
        )
        self._think = spelled(thought.open) if thought else ""
        #: Whether reasoning is open.
        self.reasons = bool(reading.opened and thought)
        self._unthink = spelled(thought.close) if thought else ""
        self._thinking = Markers((self._unthink, self._think))
        self._speaking = Markers((*opens, *silent))
        self._beginning = Markers((*opens, *silent, self._think))
        #: What may yet be the beginning of a marker.
        self._tail = ""
        #: Space that belongs to nothing if a call or reasoning follows.
        self._space: list[str] = []
        self._skips_space = self.reasons
        self._has_content = self._has_thoughts = False
        #: In a list of calls: what opened it, how many it has, and what was read since the last of them.
        self._opened_by: str | None = None
        self._count = 0
        self._raw: list[str] = []
        #: Tags: the list of calls ends with a marker of its own.
        self._goes_on = bool(call and call.tags and call.close and call.close not in call.tags.end)
        self._body: Body | None = None

    def feed(self, text: str, *, final: bool = False) -> Pieces:
        """Add text. Returns what became certain; at the end that is all of it."""
        text, self._tail = self._tail + text, ""
        while text:
            if self._body is not None:
                text = self._in_body(self._body, text)
            elif self._opened_by is not None:
                text = self._between_calls(text, final=final)
            elif self.reasons:
                text = self._in_reasoning(text, final=final)
            else:
                text = self._outside(text, final=final)
        if final:
            self._finish()
        self._pieces.calls += self.writer.take()
        pieces, self._pieces = self._pieces, Pieces()
        return pieces.without(self._stray) if self._stray else pieces

    # -- content and reasoning: each returns what is left to read

    def _outside(self, text: str, *, final: bool) -> str:
        fresh = not self._has_content and not self.writer.begun
        if fresh and self._form and self._form.bare:
            found = text.lstrip(_SPACE)
            verdict = _begins_bare(self._form.bare, found, final=final)
            if verdict is None:
                self._tail = text
                return ""
            if verdict:
                self._content(text[: len(text) - len(found)])
                self._open_list("")
                return found
        before, marker, rest = (self._beginning if fresh else self._speaking).split(text, final=final)
        if marker == self._think and before.strip(_SPACE):
            before, marker = (before + marker if not marker.startswith(CONTROL) else before), "text"
        self._content(before)
        if not marker:
            self._tail = rest
        elif self._form and marker in self._form.opens:
            self._open_list(marker)
        elif marker == self._think:
            self.reasons, self._skips_space, self._space = True, True, []
        return rest if marker else ""

    def _in_reasoning(self, text: str, *, final: bool) -> str:
        before, marker, rest = self._thinking.split(text, final=final)
        if marker == self._think and (self._has_thoughts or before.strip(_SPACE)):
            before += marker
        if self._skips_space:
            before = before.lstrip(_SPACE)
            self._skips_space = not before
        self._has_thoughts = self._has_thoughts or bool(before)
        self._pieces.reasoning += self._held(before)
        if not marker:
            self._tail = rest
            return ""
        if marker != self._think:
            self.reasons, self._skips_space, self._space = False, True, []
        return rest

    def _content(self, text: str) -> None:
        if self._skips_space:
            text = text.lstrip(_SPACE)
            self._skips_space = not text
        if not text:
            return
        self._has_content = self._has_content or bool(text.strip(_SPACE))
        if self._form or not self._has_content:
            self._pieces.text += self._held(text)
        else:
            self._pieces.text += "".join([*self._space, text])
            self._space = []

    def _held(self, text: str) -> str:
        """The text with the space before it; space at its end is kept back."""
        certain = text.rstrip(_SPACE)
        if not certain:
            self._space.append(text)
            return ""
        found = "".join([*self._space, certain])
        self._space = [text[len(certain) :]]
        return found

    # -- calls: each returns what is left to read

    def _open_list(self, marker: str) -> None:
        self._opened_by, self._count = marker, 0
        self._raw = [] if marker.startswith(CONTROL) else [marker]

    def _between_calls(self, text: str, *, final: bool) -> str:
        """Before the next call of a list. What is none ends the list."""
        assert self._form is not None
        rest = text.lstrip(_SPACE + ("" if self._form.style == "tags" else "[],;"))
        self._raw.append(text[: len(text) - len(rest)])
        if not rest:
            return ""
        close = self._form.close
        if close and self._count and rest.startswith(close):
            self._leave_list()
            return rest[len(close) :]
        if close and not final and close.startswith(rest):
            self._tail = rest
            return ""
        self._body = self._next_body(self._form, rest)
        if self._body is None:
            self._give_up()
        return rest

    def _next_body(self, form: CallFormat, rest: str) -> Body | None:
        assert self._opened_by is not None
        marked = bool(self._opened_by)

        def accepts(name: str) -> bool:
            return is_name(name) if marked else name in self._tools

        if rest[0] == "{" and form.style != "pythonic":
            return JsonCall(self.writer, accepts, strict=not marked)
        if form.style == "tags" and (not self._count or self._goes_on):
            return TaggedCall(self.writer, accepts, form, self._tools, opened_by="" if self._count else self._opened_by)
        if form.style == "named" and not self._count:
            return NamedCall(self.writer, accepts, form)
        if form.style == "pythonic" and rest[0].isidentifier():
            return PythonicCall(self.writer, accepts, self._tools)
        return None

    def _in_body(self, body: Body, text: str) -> str:
        end = body.push(text, 0)
        if not self.writer.is_open:
            self._raw.append(text[:end])
        if body.failed:
            self._give_up()
        elif body.done:
            self._body = None
            self.writer.end()
            self._count += 1
            self._raw = []
            if isinstance(body, NamedCall) or (isinstance(body, TaggedCall) and not self._goes_on):
                self._leave_list()
        return text[end:]

    def _leave_list(self) -> None:
        self._opened_by, self._raw, self._space, self._skips_space = None, [], [], True

    def _give_up(self) -> None:
        """What was read since the last call is content."""
        raw = "".join(self._raw)
        if self._count:
            raw, self._skips_space, self._space = raw.lstrip(_SPACE + "[],;"), True, []
        self._opened_by, self._raw, self._body = None, [], None
        self._has_content = True
        self._content(raw)

    def _finish(self) -> None:
        if self._body is not None:
            self._body.finish()
        if self._opened_by is not None and (self._body is None or self._body.failed):
            self._raw.append(self._tail)
            if "".join(self._raw).strip(_SPACE) == self._opened_by:
                self._raw = []
            self._give_up()
        if not self.writer.begun and not self.reasons:
            self._pieces.text += "".join(self._space)
        self._space = []


def _begins_bare(first: str, text: str, *, final: bool) -> bool | None:
    """Whether text begins a call without a marker; None if that can't be told yet."""
    if not text:
        return False
    if not text.startswith(first) or first == "{":
        return text.startswith(first)
    name, bracket, _ = text[1:].partition("(")
    if bracket:
        return is_name(name.strip(_SPACE))
    return None if not final and (not name.strip(_SPACE) or is_name(name.strip(_SPACE))) else False

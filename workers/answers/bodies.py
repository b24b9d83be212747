"""Reads one tool call, in each of the styles of `workers/answers/formats.py`, from text that comes in pieces.

A body takes text until its call has ended, or can't be one. The call is published as soon as its name is known and its
arguments begin, so it can fail only before that: then what it has read is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol

from workers.answers.formats import CallFormat
from workers.answers.pieces import CallWriter
from workers.answers.scanning import JsonString, JsonValue, Markers

#: Most characters before the arguments of a call.
MAX_HEAD = 512
_NAME_KEYS, _ARGUMENT_KEYS = ("name",), ("arguments", "parameters")
_NAME = re.compile(r"[\w.-]{1,128}\Z")
_NUMBERED = re.compile(r":\d+\Z")
_SPACE = " \t\r\n"


class Body(Protocol):
    """A call that is being read."""

    #: It has ended.
    done: bool
    #: It is none: what it has read is text.
    failed: bool

    def push(self, text: str, at: int) -> int:
        """Read from `at`. Returns where it stopped: less than the length of the text only if it has ended or failed."""

    def finish(self) -> None:
        """The answer has ended."""


def is_name(text: str) -> bool:
    """Whether a function may have this name."""
    return _NAME.match(text) is not None


class JsonCall:
    """`{"name": ..., "arguments": {...}}`, in any order, with other keys beside them."""

    def __init__(self, writer: CallWriter, accepts: Callable[[str], bool], *, strict: bool) -> None:
        self.done = self.failed = False
        self._writer, self._accepts = writer, accepts
        #: Nothing marks it as a call: it is none if it has other keys.
        self._strict = strict
        self._expects = "{"
        self._string: JsonString | None = None
        self._value: JsonValue | None = None
        self._read: list[str] = []
        self._key = self._name = self._arguments = ""
        self._published = self._streams = False

    def push(self, text: str, at: int) -> int:
        """See `Body`."""
        while at < len(text) and not self.done and not self.failed:
            if self._string is not None:
                at = self._in_key(self._string, text, at)
            elif self._value is not None:
                at = self._in_value(self._value, text, at)
            else:
                at = self._between(text, at)
        return at

    def finish(self) -> None:
        """A call that was published stays as it is; others fail."""
        self.failed = not self._published

    def _between(self, text: str, at: int) -> int:
        char = text[at]
        if char in _SPACE:
            return at + 1
        if self._expects == "{" and char == "{":
            self._expects = "key"
        elif self._expects == "key" and char == '"':
            self._string, self._read = JsonString(), ['"']
        elif self._expects == "key" and char == ",":
            pass
        elif self._expects == "key" and char == "}":
            self._end()
        elif self._expects == ":" and char == ":":
            self._expects = "value"
        elif self._expects == "value" and char not in ",:}]":
            self._begin_value(char)
            return at
        else:
            self._break()
            return at
        return at + 1

    def _in_key(self, string: JsonString, text: str, at: int) -> int:
        end = string.push(text, at)
        self._read.append(text[at:end])
        if string.done:
            self._string, self._expects = None, ":"
            self._key = str(_loaded("".join(self._read)))
            known = (*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id")
            if self._strict and self._key not in known:
                self._break()
        return end

    def _begin_value(self, char: str) -> None:
        self._value, self._read = JsonValue(char), []
        self._streams = self._key in _ARGUMENT_KEYS and char == "{" and bool(self._name) and not self._published
        if self._streams:
            self._publish()

    def _in_value(self, value: JsonValue, text: str, at: int) -> int:
        end = value.push(text, at)
        if self._streams:
            self._writer.arguments(text[at:end])
        else:
            self._read.append(text[at:end])
        if value.broken:
            self._break()
        elif value.done:
            self._value, self._expects = None, "key"
            if not self._streams:
                self._take("".join(self._read))
            self._streams = False
        return end

    def _take(self, raw: str) -> None:
        """Note a whole value: the name, or arguments that came before it or are no object."""
        if self._key in _NAME_KEYS and not self._published:
            name = _loaded(raw)
            self._name = name if isinstance(name, str) else ""
            if not self._name or not self._accepts(self._name):
                self._break()
        elif self._key in _ARGUMENT_KEYS and not self._published:
            self._arguments = raw
            if raw.startswith('"'):
                self._arguments = str(_loaded(raw))
            elif raw == "null":
                self._arguments = "{}"
            elif not raw.startswith("{"):
                self._break()

    def _publish(self) -> None:
        self._published = True
        self._writer.begin(self._name)

    def _end(self) -> None:
        if not self._published:
            if not self._name:
                self._break()
                return
            self._publish()
            self._writer.arguments(self._arguments or "{}")
        self.done = True

    def _break(self) -> None:
        """It is no JSON from here on."""
        if self._published:
            self.done = True
        else:
            self.failed = True


class NamedCall:
    """A name, perhaps with more around it, then the arguments as an object, perhaps fenced."""

    def __init__(self, writer: CallWriter, accepts: Callable[[str], bool], form: CallFormat) -> None:
        self.done = self.failed = False
        self._writer, self._accepts = writer, accepts
        self._head = Markers((*form.separators, form.close, "{"))
        self._close = Markers((form.close,)) if form.close else None
        self._form = form
        self._parts = [""]
        self._rest = ""
        self._value: JsonValue | None = None
        self._published = False

    def push(self, text: str, at: int) -> int:
        """See `Body`."""
        if self._value is None and not self._published:
            return self._in_head(text, at)
        if self._value is not None:
            end = self._value.push(text, at)
            self._writer.arguments(text[at:end])
            if not (self._value.done or self._value.broken):
                return end
            broken, self._value = self._value.broken, None
            if self._close is None:
                self.done = True
                return end
            if not broken:
                self._rest, self._close = "", None
            return end
        if self._close is not None:  # broken arguments: all up to the end of the call
            before, marker, self._rest = self._close.split(self._rest + text[at:])
            self._writer.arguments(before)
            if marker:
                self.done, rest, self._rest = True, self._rest, ""
                return len(text) - len(rest)
            return len(text)
        return self._in_tail(text, at)

    def finish(self) -> None:
        """A call that was published stays as it is; others fail."""
        self.failed = not self._published
        self._writer.arguments(self._rest if self._close is not None and self._published else "")

    def _in_head(self, text: str, at: int) -> int:
        before, marker, rest = self._head.split(self._rest + text[at:])
        self._parts[-1] += before
        self._rest = "" if marker else rest
        if sum(map(len, self._parts)) > MAX_HEAD:
            self.failed = True
            return len(text)
        if not marker:
            return len(text)
        at = len(text) - len(rest)
        if marker in self._form.separators:
            self._parts.append("")
            return at
        name = self._name()
        if not self._accepts(name):
            self.failed = True
            return at
        self._published = True
        self._writer.begin(name)
        if marker == self._form.close:
            self._writer.arguments("{}")
            self.done = True
            return at
        self._value = JsonValue("{")
        self._value.push("{", 0)
        self._writer.arguments("{")
        return at

    def _in_tail(self, text: str, at: int) -> int:
        """Behind the arguments: perhaps the end of a fence, then the end of the call."""
        while at < len(text):
            expected = self._form.close[: len(self._rest) + 1]
            if self._rest + text[at] == expected:
                self._rest, at = expected, at + 1
                if expected == self._form.close:
                    self.done = True
                    return at
            elif not self._rest and text[at] in _SPACE + "`":
                at += 1
            else:
                self.done = True
                return at
        return at

    def _name(self) -> str:
        """`get_weather` of `functions.get_weather:0`, or of `function`, `get_weather` and a fence."""
        parts = [part.replace("```json", "").strip() for part in self._parts]
        named = [part for part in parts if part] or [""]
        first = named[1] if named[0] == "function" and len(named) > 1 else named[0]
        return _NUMBERED.sub("", first).removeprefix("functions.")


def _loaded(raw: str) -> object:
    try:
        return json.loads(raw, strict=False)
    except (ValueError, RecursionError):
        return None

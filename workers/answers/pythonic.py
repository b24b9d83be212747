"""Reads tool calls that are written as calls in Python: `[get_weather(city="Oslo"), now()]`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workers.answers.pieces import CallWriter

#: Most characters of one call: it is read as a whole.
MAX_CALL = 64 * 1024
_MARKS = re.compile(r"""["'\\()\[\]{}]""")
_WORDS = {"true": True, "false": False, "null": None}


class PythonicCall:
    """One call, from its name to its last bracket. See `Body` in `workers/answers/bodies.py`."""

    def __init__(
        self, writer: CallWriter, accepts: Callable[[str], bool], tools: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.done = self.failed = False
        self._writer, self._accepts, self._tools = writer, accepts, tools
        self._name = ""
        self._read: list[str] = []
        self._size = self._depth = 0
        self._quote = ""
        self._escaped = False

    def push(self, text: str, at: int) -> int:
        """See `Body`."""
        begin, end = at, self._scan(text, at)
        self._read.append(text[begin:end])
        self._size += end - begin
        if self._size > MAX_CALL:
            self.failed = True
        elif self.done:
            self._publish("".join(self._read))
        return end

    def finish(self) -> None:
        """It never ended."""
        self.failed = True

    def _scan(self, text: str, at: int) -> int:
        while at < len(text):
            if self._escaped:
                at, self._escaped = at + 1, False
                continue
            found = _MARKS.search(text, at)
            if found is None:
                return len(text)
            at, char = found.end(), found[0]
            if char == "\\":
                self._escaped = bool(self._quote)
            elif self._quote:
                self._quote = "" if char == self._quote else self._quote
            elif char in "\"'":
                self._quote = char
            else:
                self._depth += 1 if char in "([{" else -1
                if self._depth <= 0:
                    self.done = char == ")"
                    self.failed = not self.done
                    return at
        return at

    def _publish(self, text: str) -> None:
        self.done = False
        try:
            call = ast.parse(text.strip(), mode="eval").body
            name, arguments = self._read_call(call)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            self.failed = True
            return
        if not self._accepts(name):
            self.failed = True
            return
        self._writer.begin(name)
        self._writer.arguments(json.dumps(arguments, ensure_ascii=False))
        self.done = True

    def _read_call(self, call: ast.expr) -> tuple[str, dict[str, Any]]:
        """Raises: ValueError if it is no call with plain values."""
        if not isinstance(call, ast.Call):
            raise ValueError("it is no call")
        name = ast.unparse(call.func)
        schema = self._tools.get(name)
        known = schema.get("properties") if isinstance(schema, Mapping) else None
        names: Sequence[str] = list(known) if isinstance(known, Mapping) else []
        if len(call.args) > len(names):
            raise ValueError("it has arguments without a name")
        arguments = {name: _value(value) for name, value in zip(names, call.args, strict=False)}
        for keyword in call.keywords:
            if keyword.arg is None:
                raise ValueError("it has arguments without a name")
            arguments[keyword.arg] = _value(keyword.value)
        return name, arguments


def _value(node: ast.expr) -> Any:
    """A plain value, also with the words of JSON. Raises: ValueError."""
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        if not all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in node.keys):
            raise ValueError("its keys are no texts")
        return {str(_constant(key)): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return _constant(node)


def _constant(node: ast.expr | None) -> Any:
    value = ast.literal_eval(node) if node is not None else None
    if not isinstance(value, str | int | float | bool | None) or value in (float("inf"), float("-inf")):
        raise ValueError("a value has no form in JSON")
    json.dumps(value, allow_nan=False)
    return value

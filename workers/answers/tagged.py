"""Reads a tool call whose name and arguments are tags: `<function=NAME><parameter=KEY>VALUE</parameter></function>`.

Values are plain text. What they are is told by the schema of the function's parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from workers.answers.bodies import MAX_HEAD
from workers.answers.formats import CallFormat
from workers.answers.pieces import CallWriter
from workers.answers.scanning import Markers

#: Most types of one parameter.
MAX_TYPES = 32


class TaggedCall:
    """See `Body` in `workers/answers/bodies.py`."""

    def __init__(
        self,
        writer: CallWriter,
        accepts: Callable[[str], bool],
        form: CallFormat,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        opened_by: str,
    ) -> None:
        assert form.tags is not None
        self.done = self.failed = False
        self._writer, self._accepts, self._tools = writer, accepts, tools
        self._tags = tags = form.tags
        ends = tuple({*tags.end, form.close} - {""})
        self._ends = frozenset(ends)
        self._looks_for = {
            "call": Markers((tags.call,)),
            "name": Markers((*tags.call_end, tags.key, *ends)),
            "next": Markers((tags.key, *ends)),
            "key": Markers(tags.key_end),
            "value": Markers((*tags.value_end, *(ends if tags.lines else ()))),
            "lines": Markers(tuple("\n" + marker for marker in (*tags.value_end, *ends, tags.key))),
        }
        self._state = "call" if tags.call and opened_by != tags.call else "name"
        self._read: list[str] = []
        self._size = 0
        self._rest = ""
        self._name = self._key = ""
        self._count = 0
        self._published = False

    def push(self, text: str, at: int) -> int:
        """See `Body`."""
        text, length = self._rest + text[at:], len(text)
        while not self.done and not self.failed:
            if self._state == "first" and text:
                self._state = "lines" if self._tags.lines and text[0] == "\n" else "value"
            if self._state == "first":
                break
            before, marker, text = self._looks_for[self._state].split(text)
            self._take(before)
            if not marker:
                break
            self._found(marker, "".join(self._read))
            self._read, self._size = [], 0
        self._rest = "" if self.done or self.failed else text
        return length - len(text) if self.done or self.failed else length

    def finish(self) -> None:
        """A call that was published stays as it is, with the beginning of its last value; others fail."""
        self.failed = not self._published
        if self._published and self._state in ("value", "lines"):
            self._argument("".join([*self._read, self._rest]), whole=False)

    def _take(self, text: str) -> None:
        self._read.append(text)
        self._size += len(text)
        too_long = self._state in ("call", "name", "key") and self._size > MAX_HEAD
        if too_long or (self._state == "call" and text.strip()):
            self._break()

    def _found(self, marker: str, read: str) -> None:
        if self.done or self.failed:
            return
        if self._state == "call":
            self._state = "name"
        elif self._state == "name":
            self._begin(read.strip(), marker)
        elif self._state == "next":
            self._state = "key"
            if marker in self._ends:
                self._end()
        elif self._state == "key":
            self._state, self._key = "first", read.strip()
        else:
            self._argument(read)
            self._state = "key" if marker.endswith(self._tags.key) else "next"
            if marker.lstrip("\n") in self._ends:
                self._end()

    def _begin(self, name: str, marker: str) -> None:
        if not self._accepts(name):
            self.failed = True
            return
        self._name, self._published = name, True
        self._writer.begin(name)
        self._state = "key" if marker == self._tags.key else "next"
        if marker in self._ends or marker.endswith("/>"):
            self._end()

    def _argument(self, value: str, *, whole: bool = True) -> None:
        key, _, others = self._key.partition('"')
        types = types_of(self._tools.get(self._name), key)
        if 'string="' in others:
            types = ("string",) if 'string="true' in others else ("any",)
        elif self._tags.lines:
            value = value.removeprefix("\n")
        self._writer.arguments(", " if self._count else "{")
        written = as_json(value, types) if whole else json.dumps(value, ensure_ascii=False)[:-1]
        self._writer.arguments(f"{json.dumps(key, ensure_ascii=False)}: {written}")
        self._count += 1

    def _end(self) -> None:
        self._writer.arguments("}" if self._count else "{}")
        self.done = True

    def _break(self) -> None:
        if self._published:
            self._end()
        else:
            self.failed = True


def types_of(schema: Any, name: str) -> tuple[str, ...]:
    """The types that a schema allows for a property; empty if it does not say."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    wanted = properties.get(name) if isinstance(properties, Mapping) else None
    if not isinstance(wanted, Mapping):
        return ()
    found: list[str] = []
    for one in (wanted, *_alternatives(wanted)):
        kinds = one.get("type") if isinstance(one, Mapping) else None
        found += [kinds] if isinstance(kinds, str) else [kind for kind in kinds or () if isinstance(kind, str)]
    return tuple(found[:MAX_TYPES])


def _alternatives(schema: Mapping[str, Any]) -> list[Any]:
    lists = [schema.get(name) for name in ("anyOf", "oneOf")]
    return [one for found in lists if isinstance(found, list) for one in found[:MAX_TYPES]]


def as_json(text: str, types: tuple[str, ...]) -> str:
    """A value as JSON: what the types allow, else a string."""
    others = set(types) - {"string"}
    if others or not types:
        words = {"true": "true", "false": "false", "null": "null", "none": "null"} if others else {}
        raw = words.get(text.strip().lower(), text.strip())
        try:
            value = json.loads(raw, parse_constant=_refuse)
        except (ValueError, RecursionError):
            value = None if raw == "null" else text
        kind = _kind(value)
        if not types and kind != "string":
            fits = kind in ("object", "array")
        else:
            fits = "any" in others or kind in others or (kind == "integer" and "number" in others)
        if fits:
            return raw
        if kind == "number" and "integer" in others and float(raw).is_integer():
            return str(int(float(raw)))
    return json.dumps(text, ensure_ascii=False)


def _kind(value: Any) -> str:
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (dict, "object"),
        (list, "array"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")

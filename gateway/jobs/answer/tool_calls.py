"""Tool calls as models stream them: fragments in OpenAI's form, each with the number of its call (`index`).

Servers differ in which fragments have an id, a name or an index, and in the type of the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.jobs.answer import extras
from gateway.store.codec import as_count, writable
from schemas.base.fields import too_deep

#: Standard fields of a call, and of its function.
_CALL, _FUNCTION = ("index", "id", "type", "function"), ("name", "arguments")
#: Most calls in one answer; a larger index is ignored.
MAX_CALLS = 1024


class Calls:
    """The calls of one answer, from fragments of any shape.

    An id, type or name that is empty or missing changes nothing. Another id at a known index begins a new call, and so
    does another name there, or an id or name without an index.
    """

    def __init__(self, new_id: Callable[[], str] | None = None) -> None:
        #: By number. With `new_id`, a call without an id gets one, and a type.
        self.calls: dict[int, dict[str, Any]] = {}
        self._new_id = new_id
        self._made: set[int] = set()
        #: The sender's index -> our number.
        self._at: dict[int, int] = {}
        self._last: int | None = None

    def take(self, fragment: Any) -> dict[str, Any] | None:
        """Add a fragment. Returns what is new in it, under the number of its call; None if nothing is."""
        if not isinstance(fragment, Mapping):
            return None
        function = fragment.get("function")
        inner = function if isinstance(function, Mapping) else fragment
        named: dict[str, Any] = {name: _word(fragment.get(name)) for name in ("id", "type")}
        name, arguments = _word(inner.get("name")), as_text(inner.get("arguments"))
        beside = extras.of(fragment, _CALL if inner is function else (*_CALL, *_FUNCTION))
        beside_function = extras.of(function, _FUNCTION) if inner is function else {}
        if not (named["id"] or name or arguments or beside or beside_function):
            return None
        number = self._number(fragment.get("index"), named["id"], name, arguments)
        new = number not in self.calls
        call = self.calls.setdefault(number, {})
        if new and self._new_id is not None:
            self._made |= set() if named["id"] else {number}
            named = {"id": named["id"] or self._new_id(), "type": named["type"] or "function"}
        added = {key: value for key, value in named.items() if value and not call.get(key)} | beside
        known = call.get("function") or {}
        more = beside_function | ({"name": name} if name and not known.get("name") else {})
        if arguments or (more and "arguments" not in known):
            more["arguments"] = arguments
        if more:
            call["function"] = {**known, **more}
            if "arguments" in more:
                call["function"]["arguments"] = known.get("arguments", "") + arguments
        call.update(added)
        self._last = number
        return {"index": number, **added, **({"function": more} if more else {})}

    def _number(self, index: Any, call_id: str, name: str, arguments: str) -> int:
        """Which call a fragment belongs to, or the number of a new one."""
        index = as_count(index)
        if index is None or index >= MAX_CALLS:
            same = (number for number, call in self.calls.items() if call_id and call.get("id") == call_id)
            known = next(same, None if call_id or name else self._last)
            return known if known is not None else self._free()
        known = self._at.get(index)
        if known is None or self._is_another(known, call_id, name, arguments):
            known = self._at[index] = index if index not in self.calls else self._free()
        return known

    def _is_another(self, number: int, call_id: str, name: str, arguments: str) -> bool:
        call = self.calls[number]
        if call_id and call.get("id") and number not in self._made:
            return bool(call["id"] != call_id)
        function = call.get("function") or {}
        if not name or not function.get("name"):
            return False
        return name != function["name"] or bool(arguments and _is_whole(function.get("arguments", "")))

    def _free(self) -> int:
        return max(self.calls, default=-1) + 1


def merge(fragments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each call, in order, with all that its fragments say; `arguments` are joined."""
    calls = Calls()
    for fragment in fragments:
        calls.take(fragment)
    return [{"index": number, **call} for number, call in sorted(calls.calls.items())]


def whole(fragments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Complete calls, as the message of a full answer has them."""
    found = []
    for call in merge(fragments):
        index, function = call.pop("index"), {"name": "", "arguments": "", **call.pop("function", {})}
        found.append({"id": f"call_{index}", "type": "function", **call, "function": function})
    return found


def as_text(arguments: Any) -> str:
    """Arguments as the JSON text that they should be; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(writable(arguments), ensure_ascii=False)


def as_object(arguments: str) -> dict[str, Any]:
    """Arguments as an object. Text that is not a JSON object is kept in the field `raw`."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return writable(value) if isinstance(value, dict) and not too_deep(value) else {"raw": arguments}


def _word(value: Any) -> str:
    return str(writable(value)) if isinstance(value, str) else ""


def _is_whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False

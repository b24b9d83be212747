"""Tool calls as models stream them: fragments in OpenAI's form, each with the number of its call (`index`).

Servers differ in which fragments have an id, a name or an index, and in the type of the arguments. A call of the type
`custom` has free text in place of the arguments: `input`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.jobs.answer import extras
from gateway.store.codec import as_count, writable
from schemas.base.fields import too_deep

#: The types of calls, which name what is called, with the name of the text that it is given.
TEXTS = {"function": "arguments", "custom": "input"}
#: Standard fields of a call.
_CALL = ("index", "id", "type", *TEXTS)
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
        kind, called = called_by(fragment)
        inner, field = called or fragment, TEXTS[kind]
        named: dict[str, Any] = {name: _word(fragment.get(name)) for name in ("id", "type")}
        name, arguments = _word(inner.get("name")), as_text(inner.get(field))
        beside = extras.of(fragment, _CALL if called is not None else (*_CALL, "name", field))
        beside_called = extras.of(called, ("name", field)) if called is not None else {}
        if not (named["id"] or name or arguments or beside or beside_called):
            return None
        number = self._number(fragment.get("index"), named["id"], name, arguments)
        new = number not in self.calls
        call = self.calls.setdefault(number, {})
        if new and self._new_id is not None:
            self._made |= set() if named["id"] else {number}
            named = {"id": named["id"] or self._new_id(), "type": named["type"] or kind}
        added = {key: value for key, value in named.items() if value and not call.get(key)} | beside
        known = call.get(kind) or {}
        more = beside_called | ({"name": name} if name and not known.get("name") else {})
        if arguments or (more and field not in known):
            more[field] = arguments
        if more:
            call[kind] = {**known, **more}
            if field in more:
                call[kind][field] = known.get(field, "") + arguments
        call.update(added)
        self._last = number
        return {"index": number, **added, **({kind: more} if more else {})}

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
        _, called = called_by(call)
        if not name or not called or not called.get("name"):
            return False
        return name != called["name"] or bool(arguments and _is_whole(called.get("arguments", "")))

    def _free(self) -> int:
        return max(self.calls, default=-1) + 1


def called_by(call: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """The type of a call or of a fragment, and what is called; None if it does not say."""
    found = next((kind for kind in TEXTS if isinstance(call.get(kind), Mapping)), None)
    if found is None:
        return ("custom" if call.get("type") == "custom" else "function"), None
    return found, call[found]


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
        kind, called = called_by(call)
        index = call.pop("index")
        whole_call = {"name": "", TEXTS[kind]: "", **(called or {})}
        found.append({"id": f"call_{index}", "type": kind, **call, kind: whole_call})
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

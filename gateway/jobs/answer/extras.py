"""What a provider puts beside the text and the calls of an answer: reasoning, signatures, refusals, annotations.

Nobody here knows what it means. It reaches the client as it came, and goes back to the provider that said it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.store.codec import writable

#: Names the provider that has put something beside an answer, so that nobody else is sent it.
PROVIDER = "provider"
#: Texts that are said again rather than continued.
_CONSTANT = frozenset({"id", "type", "name", "role", "format", "signature", PROVIDER})


def of(said: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The fields beside the known ones that hold something, in a form that can be written."""
    others = {name: value for name, value in said.items() if name not in known}
    return {name: value for name, value in writable(others).items() if value is not None and value not in ("", [], {})}


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Pieces as one: texts and lists go on, entries of a list with the same `index` are one, the last number counts."""
    whole: dict[str, Any] = {}
    for part in parts:
        whole = _joined("", whole, part)
    return whole


def _joined(name: str, first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str) and name not in _CONSTANT:
        return first + second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        both = dict(first)
        for key, value in second.items():
            both[key] = _joined(key, both[key], value) if key in both else value
        return both
    if isinstance(first, list) and isinstance(second, list):
        return _gathered(first, second)
    return second


def _gathered(first: list[Any], second: list[Any]) -> list[Any]:
    entries = list(first)
    places = {entry["index"]: place for place, entry in enumerate(entries) if _is_numbered(entry)}
    for entry in second:
        place = places.get(entry["index"]) if _is_numbered(entry) else None
        if place is None:
            entries.append(entry)
        else:
            entries[place] = _joined("", entries[place], entry)
    return entries


def _is_numbered(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("index"), int)


def belong(turn: Mapping[str, Any], provider: str, *, named: bool) -> bool:
    """Whether a provider is sent the extras of a turn. If nobody says whose they are, they are of the model that the
    client has named.
    """
    owner = turn.get(PROVIDER)
    return owner == provider if isinstance(owner, str) else named

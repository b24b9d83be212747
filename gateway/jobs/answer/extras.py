"""Fields that a provider adds to the text and the calls of an answer: reasoning, signatures, refusals, annotations.

They are not interpreted: the client gets them as they are, and sends them back to the provider that made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.store.codec import writable

#: Field that names the provider of extras, so that no other provider is sent them.
PROVIDER = "provider"
#: Fields whose text is repeated in later pieces, not continued.
_CONSTANT = frozenset({"id", "type", "name", "role", "format", "signature", PROVIDER})


def of(payload: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The non-empty fields other than `known`, in a form that can be written."""
    others = {name: value for name, value in payload.items() if name not in known}
    return {name: value for name, value in writable(others).items() if value is not None and value not in ("", [], {})}


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join pieces: texts and lists go on, list entries with the same `index` are joined, the last number wins."""
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
    positions = {entry["index"]: position for position, entry in enumerate(entries) if _is_numbered(entry)}
    for entry in second:
        position = positions.get(entry["index"]) if _is_numbered(entry) else None
        if position is None:
            entries.append(entry)
        else:
            entries[position] = _joined("", entries[position], entry)
    return entries


def _is_numbered(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("index"), int)


def belong(turn: Mapping[str, Any], provider: str, *, named: bool) -> bool:
    """Whether a provider is sent the extras of a turn. Extras without a provider belong to the model that the client
    has named (`named`).
    """
    owner = turn.get(PROVIDER)
    return owner == provider if isinstance(owner, str) else named

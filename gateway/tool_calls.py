"""Calls of tools as models stream them: fragments in OpenAI's form, each with the number of its call (`index`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def merge(fragments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each call, in order, with all that its fragments say; `arguments` are joined."""
    calls: dict[int, dict[str, Any]] = {}
    for fragment in fragments:
        index = int(fragment.get("index") or 0)
        call = calls.setdefault(index, {"index": index})
        call.update({name: value for name, value in fragment.items() if name not in ("index", "function")})
        function = fragment.get("function") or {}
        if function:
            mine = call.setdefault("function", {})
            mine.update({name: value for name, value in function.items() if name != "arguments"})
            mine["arguments"] = mine.get("arguments", "") + (function.get("arguments") or "")
    return [calls[index] for index in sorted(calls)]


def whole(fragments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Complete calls, as the message of a full answer has them."""
    return [
        {"id": call.get("id", ""), "type": call.get("type", "function"), "function": call.get("function", {})}
        for call in merge(fragments)
    ]

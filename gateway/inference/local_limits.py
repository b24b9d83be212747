"""What only remote models can be asked: anything but text, and tools that take free text. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def only_remote(request: Mapping[str, Any]) -> dict[str, list[str]]:
    """The fields of a request that no local model can read, with error texts."""
    found = {}
    for number, turn in enumerate(request.get("messages") or ()):
        if isinstance(turn["content"], list):
            kind = next(part["type"] for part in turn["content"] if part["type"] != "text")
            found[f"messages.{number}.content"] = [f"Got a part of the type {kind}; a local model reads texts only."]
    for number, tool in enumerate(request.get("tools") or ()):
        if tool.get("type", "function") != "function":
            found[f"tools.{number}.type"] = [f"Got {tool['type']}; a local model calls functions only."]
    return found

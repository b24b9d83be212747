"""The comparison of answers with the document's examples finds what is missing, and lets measured figures vary."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shape import lacks

EXAMPLE = {
    "id": "cmpl-123",
    "at": "2025-05-22T10:00:00Z",
    "memory_usage": "28GB",
    "share": 0.5,
    "done": False,
    "models": [{"id": "a", "size": 1}, {"id": "b", "size": 1, "deployment": {"type": "local"}}],
}
SAME: dict[str, Any] = {
    "id": "cmpl-x9",
    "at": "2030-01-01T00:00:00Z",
    "memory_usage": "0.3GB",
    "share": 1,
    "done": True,
    "models": [{"id": "b", "size": 2.5, "deployment": {"type": "local", "more": 1}}, {"id": "c", "size": 3}],
}


def test_figures_and_further_fields_may_differ() -> None:
    assert lacks(EXAMPLE, SAME) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": "chat-1"}, ".id"),
        ({"at": "yesterday"}, ".at"),
        ({"memory_usage": 3}, ".memory_usage"),
        ({"share": None}, ".share"),
        ({"share": True}, ".share"),
        ({"done": 0}, ".done"),
        ({"models": []}, ".models"),
        ({"models": [{"id": "b", "size": 2}]}, ".models[0].deployment"),
        ({"models": [{"id": "c"}]}, ".models[0].size"),
        ({"models": {"id": "c"}}, ".models"),
    ],
)
def test_what_is_missing_is_found(change: dict[str, Any], place: str) -> None:
    (flaw,) = lacks(EXAMPLE, {**SAME, **change})
    assert flaw.split(" ")[0].rstrip(":") == place


def test_a_missing_field_is_found() -> None:
    assert lacks(EXAMPLE, {name: value for name, value in SAME.items() if name != "at"}) == [".at is missing"]

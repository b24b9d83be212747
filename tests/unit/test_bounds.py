"""How much a request may hold, and what of it is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.errors import MAX_TEXT, HeadraceError, InvalidRequest
from gateway.jobs.events import Event
from gateway.jobs.journal import num_indexes
from schemas.base.bounds import MAX_BODY_DEPTH, require_bounded
from schemas.inference import ChatRequestSchema
from web.client_errors import client_error


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def told(body: dict[str, Any], most: int = 100) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        require_bounded(body, most)
    return client_error(caught.value, "").errors


@pytest.mark.parametrize("body", [{}, {"a": 1}, {"a": [1] * 10**6}, {"a": [{"b": {}}] * 32}, {"a": nested(98)}])
def test_what_is_small_passes(body: dict[str, Any]) -> None:
    require_bounded(body, 100)


@pytest.mark.parametrize(
    "body", [{"a": [{}] * 101}, {"a": [[]] * 101}, {f"k{i}": 1 for i in range(101)}, {"a": [{"b": 1, "c": 2}] * 60}]
)
def test_what_holds_too_much_is_refused(body: dict[str, Any]) -> None:
    assert "more than 100 objects" in told(body)["body"][0]


@pytest.mark.parametrize("depth", [MAX_BODY_DEPTH + 1, 1_000, 50_000])
def test_what_is_too_deep_is_refused_by_name(depth: int) -> None:
    assert told({"a": 1, "b": nested(depth)}, 10**6) == {"b": ["Is nested deeper than 100 levels."]}


def test_a_list_with_many_flaws_tells_the_first_ones() -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequestSchema().load({"messages": [{}] * 10_000})
    error = client_error(caught.value, "")
    assert len(error.errors) == 20
    assert "messages[19].role" in error.message


@given(st.dictionaries(st.text(), st.lists(st.text(), max_size=3), max_size=60))
def test_any_error_is_bounded_and_can_be_written(fields: dict[str, list[str]]) -> None:
    error = InvalidRequest.of(fields)
    assert len(error.message.encode()) <= 8 * MAX_TEXT
    assert len(error.errors) <= 20


@given(st.text(st.characters(categories=["Cs", "Cn", "L"])))
def test_halves_of_surrogate_pairs_in_an_error_are_spelled_out(text: str) -> None:
    error = HeadraceError(text, errors={text: [text]})
    assert all(
        isinstance(one.encode(), bytes) for one in (error.message, *error.errors, *next(iter(error.errors.values())))
    )


def test_a_journal_can_not_speak_of_more_choices_than_there_are() -> None:
    assert num_indexes([Event(1, {"type": "delta", "index": 511})]) == 512
    with pytest.raises(ValueError, match="1000000001 choices"):
        num_indexes([Event(1, {"type": "delta", "index": 10**9})])

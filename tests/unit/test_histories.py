"""Histories as clients of OpenAI-like servers keep them: what is nothing, what is told apart, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from schemas.inference import ChatRequestSchema
from schemas.openai import OpenAIChatSchema
from web.client_errors import client_error

USER = {"role": "user", "content": "hi"}


def loaded(*turns: Any) -> list[dict[str, Any]]:
    """The turns behind the user's, the same by both schemas."""
    native = ChatRequestSchema().load({"messages": [USER, *turns]})
    asked = OpenAIChatSchema().load({"model": "m", "messages": [USER, *turns]})
    assert asked.request.messages == native.messages
    found: list[dict[str, Any]] = native.messages[1:]
    return found


def refused(*turns: Any) -> dict[str, list[str]]:
    """What is said of the turns behind the user's, by field."""
    with pytest.raises(ValidationError) as caught:
        ChatRequestSchema().load({"messages": [USER, *turns]})
    return client_error(caught.value, "").errors


def call(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "a", "arguments": "{}"}, **fields}


def calls(*made: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


def result(content: Any = "7", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **fields}


@pytest.mark.parametrize(
    ("turn", "content"),
    [
        (result(None, tool_call_id="c1"), ""),
        ({"role": "function", "name": "a", "content": None}, ""),
        ({"role": "user", "content": [{"type": "text", "text": None}, {"type": "text", "text": "a"}]}, "a"),
        ({"role": "assistant", "content": [{"type": "text", "text": None}]}, ""),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": None}]}, ""),
    ],
)
def test_a_null_is_an_empty_text(turn: dict[str, Any], content: str) -> None:
    assert loaded(turn)[0]["content"] == content


@pytest.mark.parametrize(
    "fields",
    [
        {"function_call": {"name": None, "arguments": None}},
        {"function_call": {"name": "", "arguments": ""}},
        {"function_call": {}},
        {"tool_call_id": ""},
        {"tool_call_id": None},
        {"name": ""},
        {"name": None},
    ],
)
def test_what_is_empty_beside_an_answer_is_nothing(fields: dict[str, Any]) -> None:
    said = {"role": "assistant", "content": "yes"}
    assert loaded({**said, **fields}) == [said]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([1, "x"], '[1,"x"]'),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        ({"a": None}, '{"a":null}'),
        (None, ""),
        ("{", "{"),
    ],
)
def test_arguments_of_any_kind_are_text(arguments: Any, text: str) -> None:
    made = call(id="c1", function={"name": "a", "arguments": arguments})
    assert loaded(calls(made))[0]["tool_calls"][0]["function"]["arguments"] == text
    [turn] = loaded({"role": "assistant", "content": None, "function_call": {"name": "a", "arguments": arguments}})
    assert turn["tool_calls"][0]["function"]["arguments"] == text


def test_thoughts_among_the_parts_of_an_answer_are_left_out() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "yes"}]}
    assert loaded(said) == [{"role": "assistant", "content": "yes"}]
    assert "Got the part" in refused({"role": "user", "content": [thought]})["messages[1].content"][0]


@pytest.mark.parametrize("empty", [{}, {"id": ""}, {"id": None}])
@pytest.mark.parametrize("unanswering", [{}, {"tool_call_id": ""}, {"tool_call_id": None}])
def test_a_call_without_an_id_has_that_of_its_result(empty: dict[str, Any], unanswering: dict[str, Any]) -> None:
    turn, *results = loaded(
        calls(call(**empty), call(id="c2"), call(**empty)),
        result("2", tool_call_id="c2"),
        result("1", **unanswering),
        result("3", tool_call_id="c3"),
    )
    ids = [made["id"] for made in turn["tool_calls"]]
    assert ids[1:] == ["c2", "c3"]
    assert ids[0] not in ("", "c2", "c3")
    assert [found["tool_call_id"] for found in results] == ["c2", ids[0], "c3"]


def test_invented_ids_of_several_turns_differ() -> None:
    turns = loaded(calls(call()), result(), calls(call(), call()), result(), result())
    made = [one["id"] for turn in turns for one in turn.get("tool_calls", ())]
    assert [turn["tool_call_id"] for turn in turns if turn["role"] == "tool"] == made
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([calls(call(id=""))], "messages[1].tool_calls[0].id"),
        ([calls(call()), USER, result()], "messages[1].tool_calls[0].id"),
        ([calls(call(id="c1")), calls(call()), result(tool_call_id="c1")], "messages[2].tool_calls[0].id"),
        ([calls(call(id="")), result(), result()], "messages[3].tool_call_id"),
        ([calls(call(id=5)), result(tool_call_id="5")], "messages[1].tool_calls[0].id"),
        ([calls(call()), result(tool_call_id=5)], "messages[2].tool_call_id"),
        ([result(tool_call_id="")], "messages[1].tool_call_id"),
        ([{"role": "assistant", "content": "x", "tool_call_id": "c1"}], "messages[1].tool_call_id"),
        ([{"role": "assistant", "content": "x", "function_call": {"arguments": "{}"}}], "messages[1].function_call"),
        ([{"role": "tool", "tool_call_id": "c1"}], "messages[1].content"),
        ([{"role": "user", "content": None}], "messages[1].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[1].content"),
        ([{**USER, "name": ""}], "messages[1].name"),
    ],
)
def test_what_has_no_meaning_is_refused_where_it_stands(turns: list[dict[str, Any]], field: str) -> None:
    assert any(name.startswith(field) for name in refused(*turns))

"""Histories as clients of OpenAI-like servers keep them: what is nothing, what is told apart, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.inference.estimates import MEDIA_TOKENS, estimate_prompt
from gateway.inference.local_limits import only_remote
from schemas.inference import ChatRequestSchema
from schemas.lenient.openai import OpenAIChatSchema
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


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}


@pytest.mark.parametrize("part", [IMAGE, AUDIO, FILE])
@pytest.mark.parametrize("role", ["user", "tool"])
def test_parts_stay_parts_if_one_is_no_text(part: dict[str, Any], role: str) -> None:
    turn = {"role": role, "content": [{"type": "text", "text": "Look."}, part]}
    if role == "tool":
        turn["tool_call_id"] = "c1"
    assert loaded(turn)[0]["content"] == turn["content"]


def test_an_image_may_be_its_address_alone() -> None:
    turn = {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com/a.png"}]}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert loaded(turn)[0]["content"] == [image]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "system", "content": [IMAGE]},
        {"role": "user", "content": [{"type": {}, "text": ""}]},
        {"role": "assistant", "content": [IMAGE]},
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://\ud83d"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "wav"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"filename": "a"}}]},
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_id": "a", "deep": json.loads("[" * 99 + "]" * 99)}}],
        },
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://x"}}]},
    ],
)
def test_a_part_that_nobody_reads_is_refused(turn: dict[str, Any]) -> None:
    assert list(refused(turn)) == ["messages[1].content"]


CUSTOM_TOOL = {"type": "custom", "custom": {"name": "code", "format": {"type": "text"}}}
TOOL = {"type": "function", "function": {"name": "a"}}


def asked(**fields: Any) -> Any:
    return ChatRequestSchema().load({"messages": [USER], **fields})


def test_custom_tools_and_their_calls_are_taken() -> None:
    made = {"id": "c1", "type": "custom", "custom": {"name": "code", "input": "1"}}
    assert loaded(calls({**made, "index": 0}), result(tool_call_id="c1"))[0]["tool_calls"] == [made]
    choice = {"type": "custom", "custom": {"name": "code"}}
    request = asked(tools=[CUSTOM_TOOL, TOOL], tool_choice=choice)
    assert (request.tools[0], request.tool_choice) == (CUSTOM_TOOL, choice)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {"name": ""}}]}, "tools[0].custom"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "code"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none"}}}, "tool_choice"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"x": 1}]}},
            },
            "tool_choice",
        ),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CUSTOM_TOOL]}},
            },
            "tool_choice",
        ),
    ],
)
def test_a_choice_that_makes_no_sense_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(**fields)
    [named] = client_error(caught.value, "").errors
    assert named.startswith(field)


def test_allowed_tools_are_kept() -> None:
    allowed = {"mode": "required", "tools": [TOOL]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert asked(tools=[TOOL], tool_choice=choice).tool_choice == choice


def test_a_local_model_reads_texts_and_calls_functions_only() -> None:
    request = {"messages": [USER, {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]}
    found = only_remote({**request, "tools": [TOOL, CUSTOM_TOOL]})
    assert list(found) == ["messages.1.content", "tools.1.type"]
    assert "image_url" in found["messages.1.content"][0]


def test_an_image_counts_for_so_many_tokens_whatever_its_size() -> None:
    large = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert estimate_prompt({"messages": [{"role": "user", "content": [large]}]}) < 2 * MEDIA_TOKENS

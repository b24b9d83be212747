"""OpenAI's turns by Anthropic's rules, as the API itself would judge them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.upstreams.anthropic import refused_turns
from workers.providers.protocols.turns import messages, system

USER = {"role": "user", "content": "hi"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "S="}
REDACTED = {"type": "redacted_thinking", "data": "Zm9v"}


def said(text: str, **more: Any) -> dict[str, Any]:
    """A turn of the assistant."""
    return {"role": "assistant", "content": text, **more}


def calls(*ids: str, text: str = "", arguments: str = "{}", name: str = "a") -> dict[str, Any]:
    """A turn with calls."""
    made = [{"id": i, "type": "function", "function": {"name": name, "arguments": arguments}} for i in ids]
    return said(text, tool_calls=made)


def result(call_id: str, text: str = "7") -> dict[str, Any]:
    """The result of a call."""
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def told(*turns: dict[str, Any], provider: str = "an", named: bool = True) -> list[dict[str, Any]]:
    """The turns as they are sent."""
    found = messages(turns, provider=provider, named=named)
    assert refused_turns(found, tools=True) == ""
    return found


@pytest.mark.parametrize(
    "turns",
    [
        [USER],
        [{"role": "user", "content": ""}],
        [said("hello")],
        [said("hello"), USER],
        [USER, USER, said("a"), said("b"), USER],
        [USER, said("")],
        [USER, said("a \n")],
        [USER, said(" \n"), said("b ")],
        [USER, calls("c1"), result("c1"), {"role": "user", "content": ""}],
        [USER, calls("c1", "c2"), result("c2"), result("c1")],
        [USER, calls("c1", "c2"), result("c1"), USER, result("c2")],
        [USER, calls("c1"), USER],
        [USER, calls("c1"), said("b"), result("c1")],
        [USER, calls("c1")],
        [USER, calls("c1"), result("c1", "")],
        [USER, calls("c1"), result("c1"), result("c1", "8")],
        [USER, result("c9"), USER],
        [USER, calls("call_1"), result("call_1"), calls("call_1"), result("call_1")],
        [USER, calls("c1", "c1"), result("c1")],
        [USER, calls("functions.a:0", "functions_a_0"), result("functions.a:0"), result("functions_a_0")],
        [USER, calls("ö" * 200), result("ö" * 200)],
        [USER, calls("c1", arguments='{"a": "He said "x""}'), result("c1")],
        [USER, calls("c1", arguments="[1]"), result("c1")],
        [USER, calls("c1", arguments=""), result("c1")],
        [USER, calls("c1", arguments="9" * 5000), result("c1")],
        [USER, calls("c1", arguments="[" * 5000), result("c1")],
        [USER, calls("c1", name="a.b/c" * 40), result("c1")],
        [calls("c1"), result("c1")],
        [USER, said("", thinking_blocks=[THOUGHT]), USER],
        [USER, said(" \n", thinking_blocks=[THOUGHT, REDACTED])],
        [USER, said("a", thinking_blocks=[THOUGHT]), said("", thinking_blocks=[REDACTED])],
        [USER, {**calls("c1"), "thinking_blocks": [THOUGHT]}, result("c1")],
        [],
    ],
)
def test_any_history_is_one_that_the_api_takes(turns: list[dict[str, Any]]) -> None:
    told(*turns)


def test_results_stand_right_behind_their_calls_in_the_order_of_these() -> None:
    first, use, last = told(USER, calls("c1", "c2", text="Let me see."), result("c2", "two"), USER, result("c1", "one"))
    assert first == {"role": "user", "content": "hi"}
    assert [block["type"] for block in use["content"]] == ["text", "tool_use", "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": f"c{i}", "content": text} for i, text in ((1, "one"), (2, "two"))]
    assert last == {"role": "user", "content": [*results, {"type": "text", "text": "hi"}]}


def test_an_id_that_comes_again_is_another_call() -> None:
    turns = told(USER, calls("call_1"), result("call_1", "a"), calls("call_1"), result("call_1", "b"))
    assert [turns[at]["content"][0]["id"] for at in (1, 3)] == ["call_1", "call_1_2"]
    results = [turns[at]["content"][0] for at in (2, 4)]
    assert [(block["tool_use_id"], block["content"]) for block in results] == [("call_1", "a"), ("call_1_2", "b")]


def test_a_call_without_a_result_has_one_that_says_so() -> None:
    missing = {"type": "tool_result", "tool_use_id": "c1", "content": "(no result)", "is_error": True}
    assert told(USER, calls("c1"), USER)[-1]["content"] == [missing, {"type": "text", "text": "hi"}]
    empty = {"type": "tool_result", "tool_use_id": "c1"}
    assert told(USER, calls("c1"), result("c1", ""))[-1]["content"] == [empty]


def test_signed_thoughts_go_back_to_the_provider_that_had_them() -> None:
    thoughts = [THOUGHT, REDACTED]
    odd = [{"type": "thinking", "thinking": "unsigned"}, None, {"type": "new"}]
    turn = said("Yes.", thinking_blocks=[*thoughts, *odd], reasoning_content="hm", provider="an")
    text = {"type": "text", "text": "Yes."}
    assert told(USER, turn, USER)[1]["content"] == [*thoughts, text]
    assert told(USER, {**turn, "provider": "else"}, USER)[1]["content"] == "Yes."
    assert told(USER, {**turn, "provider": None}, USER, named=False)[1]["content"] == "Yes."
    assert told(USER, said("", refusal="No."), USER)[1]["content"] == "No."


def test_a_turn_that_only_thinks_is_left_out() -> None:
    both = [{"type": "text", "text": "hi"}] * 2
    assert told(USER, said("", thinking_blocks=[THOUGHT]), USER) == [{"role": "user", "content": both}]
    use = told(USER, {**calls("c1"), "thinking_blocks": [THOUGHT]}, result("c1"))[1]
    assert [block["type"] for block in use["content"]] == ["thinking", "tool_use"]


def test_instructions_are_put_together() -> None:
    turns = [{"role": "system", "content": "Be brief."}, USER, {"role": "system", "content": " "}]
    assert system([*turns, {"role": "system", "content": "Be kind."}]) == "Be brief.\n\nBe kind."
    assert told(*turns) == [USER]

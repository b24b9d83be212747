"""Fragments of calls, as the journals of older versions have them too."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.jobs.answer import extras
from gateway.jobs.answer.tool_calls import as_object, as_text, merge, whole
from gateway.store.codec import dumps, mended, writable


def fragment(index: Any = 0, *, name: Any = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    """A fragment."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"index": index, **({"function": function} if function else {}), **more}


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        ([fragment(id="c1", name="a", arguments=""), fragment(id="", name="", arguments="{}")], [("c1", "a", "{}")]),
        ([fragment(id="c1", name="a", arguments="{"), fragment(id="c1", name="a", arguments="}")], [("c1", "a", "{}")]),
        ([fragment(id="c1", name="a"), fragment(id="c2", name="b")], [("c1", "a", ""), ("c2", "b", "")]),
        ([fragment(id="c1", name="a", arguments="{}"), fragment(name="b")], [("c1", "a", "{}"), ("call_1", "b", "")]),
        ([fragment(None, id="c1", name="a"), fragment(None, arguments="{}")], [("c1", "a", "{}")]),
        ([fragment(1, id="c2", name="b"), fragment(0, id="c1", name="a")], [("c1", "a", ""), ("c2", "b", "")]),
        ([fragment(id="c1", name="a", arguments={"x": 1})], [("c1", "a", '{"x": 1}')]),
        ([fragment(id="c1", name="a", arguments=[1])], [("c1", "a", "[1]")]),
        ([fragment(id="c1", name="a", arguments=True)], [("c1", "a", "true")]),
        ([{"index": 0, "id": "c1", "function": None}], [("c1", "", "")]),
        ([{"index": "0", "id": 5, "function": 7}], []),
        *(
            (
                [
                    *(fragment(one, id="c1", name="a", arguments="1"), fragment(two, id="c2", name="b", arguments="2")),
                    *(fragment(one, arguments="3"), fragment(two, arguments="4")),
                ],
                [("c1", "a", "13"), ("c2", "b", "24")],
            )
            for one, two in ((0, 1), ("0", "1"), (0.0, 1.0))
        ),
        ([{}, fragment(id="c1", name="a")], [("c1", "a", "")]),
    ],
)
def test_what_is_empty_changes_nothing_and_another_id_begins_a_call(
    fragments: list[Any], calls: list[tuple[str, str, str]]
) -> None:
    found = whole(fragments)
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in found] == calls
    assert whole(merge(fragments)) == found


def test_numbers_of_later_fragments_stay() -> None:
    later = [fragment(2, arguments="x"), fragment(2, arguments="y")]
    assert merge(later) == [{"index": 2, "function": {"arguments": "xy"}}]


def test_what_is_beside_a_call_is_kept() -> None:
    first = fragment(id="c1", type="function", name="a", extra_content={"google": {"thought_signature": "A="}})
    first["function"]["note"] = "n"
    [call] = whole([first, fragment(arguments="{}", extra_content={"google": {"more": 1}})])
    assert call["function"] == {"name": "a", "arguments": "{}", "note": "n"}
    assert call["extra_content"]["google"] == {"more": 1}


def test_arguments_are_text_for_some_and_an_object_for_others() -> None:
    assert [as_text(value) for value in (None, "", "x", {"a": float("inf")}, 1.5)] == [
        "",
        "",
        "x",
        '{"a": null}',
        "1.5",
    ]
    assert [as_object(text) for text in ("", '{"a": 1}', "[1]", "no")] == [{}, {"a": 1}, {"raw": "[1]"}, {"raw": "no"}]


def test_pieces_of_extras_are_put_together() -> None:
    parts: list[dict[str, Any]] = [
        {"reasoning": "a", "details": [{"index": 0, "type": "t", "text": "x"}], "provider": "p", "audio": {"id": "i"}},
        {"reasoning": "b", "details": [{"index": 0, "type": "t", "text": "y"}, {"index": 1, "text": "z"}]},
        {"blocks": [{"a": 1}], "provider": "p", "audio": {"id": "i", "data": "AA"}, "number": 1},
        {"blocks": [{"a": 1}], "number": 2},
    ]
    assert extras.merge(parts) == {
        "reasoning": "ab",
        "details": [{"index": 0, "type": "t", "text": "xy"}, {"index": 1, "text": "z"}],
        "provider": "p",
        "audio": {"id": "i", "data": "AA"},
        "blocks": [{"a": 1}, {"a": 1}],
        "number": 2,
    }


def test_any_value_can_be_written() -> None:
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    value = {"\ud83d": ["\ud83d\ude0a", float("nan"), 2**70, -(2**70), 10**400, b"x", (1,), {1: None}], "deep": deep}
    assert writable(value)["\ufffd"] == ["😊", None, 2.0**70, -(2.0**70), None, "b'x'", [1], {"1": None}]
    dumps(writable(value))
    assert mended("a\ude0ab\ud83d") == "a\ufffdb\ufffd"


def test_a_custom_call_has_free_text_in_place_of_arguments() -> None:
    parts = [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "code", "input": ""}},
        {"index": 0, "custom": {"input": "1 "}},
        {"index": 0, "custom": {"input": "+ 1"}},
        {"index": 1, "custom": {"name": "code", "input": "2"}},
        fragment(2, id="c3", name="a", arguments="{}"),
    ]
    made = whole(parts)
    assert made[0] == {"id": "c1", "type": "custom", "custom": {"name": "code", "input": "1 + 1"}}
    assert made[1] == {"id": "call_1", "type": "custom", "custom": {"name": "code", "input": "2"}}
    assert made[2]["function"] == {"name": "a", "arguments": "{}"}
    assert whole(merge(parts)) == made

"""Any text as an answer: it is read whole, however it is cut, in a time that grows with its length only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.answer import tool_calls
from tests.fuzz.budget import budget
from workers.answers.channels import MARKERS, Channels
from workers.answers.formats import CALL_FORMATS, REASONING_FORMATS, CallFormat
from workers.answers.parser import CONTROL, Parser, Reading
from workers.answers.pieces import Pieces

TOOLS: dict[str, dict[str, Any]] = {"f": {"properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}}}}


def words_of(form: CallFormat) -> list[str]:
    tags = form.tags
    found = [*form.opens, *form.around, *form.separators, form.close, form.bare, *MARKERS]
    found += [tags.call, *tags.call_end, tags.key, *tags.key_end, *tags.value_end, *tags.end] if tags else []
    return [*filter(None, found), "f", "f(", "functions.f:0", "to=f", '{"name": "f", "arguments": {', '"a": 1', "}}"]


PLAIN = [
    "<think>",
    "</think>",
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ";",
    " ",
    "\n",
    "```",
    "'",
    ")",
    "=",
    CONTROL,
    "\U0001f600",
]


def made(form: CallFormat, *, opened: bool, control: frozenset[str] = frozenset()) -> Any:
    reading = Reading(calls=form, reasoning=REASONING_FORMATS["think"], opened=opened, tools=TOOLS, control=control)
    return (Channels if form.style == "channels" else Parser)(reading, str)


def read(parser: Any, parts: list[str]) -> Pieces:
    whole = Pieces()
    for part in parts:
        whole.add(parser.feed(part))
    whole.add(parser.feed("", final=True))
    return whole


@pytest.mark.parametrize("name", CALL_FORMATS)
@budget(100)
@given(data=st.data(), opened=st.booleans())
def test_an_answer_is_the_same_however_it_is_cut(name: str, data: st.DataObject, opened: bool) -> None:
    form = CALL_FORMATS[name]
    word = st.sampled_from(words_of(form) + PLAIN) | st.text(max_size=3)
    parts = data.draw(st.lists(word, max_size=25))
    text = "".join(parts)
    results = [
        (found.text, found.reasoning, tool_calls.merge(found.calls))
        for found in (read(made(form, opened=opened), cut) for cut in ([text], parts, list(text)))
    ]
    assert results[0] == results[1] == results[2]
    json.dumps(results[0])


@pytest.mark.parametrize("name", CALL_FORMATS)
@budget(50)
@given(data=st.data())
def test_control_tokens_never_become_text(name: str, data: st.DataObject) -> None:
    form = CALL_FORMATS[name]
    names = frozenset({*form.opens, *form.around, *form.separators, form.close, "<think>", "</think>", *MARKERS} - {""})
    word = st.sampled_from([CONTROL + marker for marker in sorted(names)]) | st.sampled_from(
        words_of(form)[-5:] + PLAIN[2:-2]
    )
    found = read(made(form, opened=False, control=names), data.draw(st.lists(word, max_size=25)))
    said = [found.text, found.reasoning, *(call["function"]["arguments"] for call in tool_calls.merge(found.calls))]
    assert not any(CONTROL in text for text in said), said


LONG = [(name, text) for name in CALL_FORMATS for text in ("{", "[", " ", "<", '"', "\\", "<tool_call>", "f(")]
USUAL = [("hermes", "{"), ("hermes", '"'), ("qwen-xml", "<"), ("gpt-oss", " "), ("pythonic", "f(")]


@pytest.mark.parametrize(
    ("name", "text"), [*USUAL, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG if case not in USUAL)]
)
def test_a_long_answer_takes_its_time_only(name: str, text: str) -> None:
    """What grows with the square of its length would not end."""
    form = CALL_FORMATS[name]
    for begins in ("", *form.opens[:1]):
        read(made(form, opened=False), [begins, *list(text * (60_000 // len(text)))])

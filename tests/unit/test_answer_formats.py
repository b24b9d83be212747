"""Answers in each format, as models write them: content, reasoning and calls, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.jobs.answer import tool_calls
from schemas.catalog import REASONING_FORMATS as NAMED_REASONING
from schemas.catalog import TOOL_FORMATS
from workers.answers.channels import Channels
from workers.answers.formats import CALL_FORMATS, NONE, REASONING_FORMATS, call_format, reasoning_format
from workers.answers.parser import CONTROL, Parser, Reading
from workers.answers.pieces import Pieces

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "metric": {"type": "boolean"}},
}
TOOLS = {"get_weather": WEATHER, "now": {}}
OSLO = ("get_weather", {"city": "Oslo", "days": 3})
NOW: tuple[str, dict[str, Any]] = ("now", {})


def read(answer: str, calls: str = "", reasoning: str = "", *, step: int = 0, **more: Any) -> Pieces:
    """All of an answer, given in pieces of `step` characters."""
    form = CALL_FORMATS.get(calls)
    reading = Reading(calls=form, reasoning=REASONING_FORMATS.get(reasoning), tools=TOOLS, **more)
    made = Channels if form and form.style == "channels" else Parser
    parser = made(reading, lambda number: f"call_{number}")
    whole = Pieces()
    for at in range(0, len(answer), step or max(len(answer), 1)):
        whole.add(parser.feed(answer[at : at + (step or len(answer))]))
    whole.add(parser.feed("", final=True))
    return whole


def meaning(pieces: Pieces) -> tuple[str, str, list[tuple[str, Any]]]:
    calls = [call["function"] for call in tool_calls.merge(pieces.calls)]
    return pieces.text, pieces.reasoning, [(call["name"], json.loads(call["arguments"])) for call in calls]


def mark(text: str) -> str:
    """Control tokens as the parser sees them: written as `«name»`."""
    return text.replace("«", CONTROL).replace("»", "")


#: Format, answer, content, calls.
CALLS: dict[str, tuple[str, str, str, list[tuple[str, Any]]]] = {
    "hermes": (
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>',
        "",
        [OSLO],
    ),
    "hermes, two": (
        "hermes",
        'I look.\n\n<tool_call>{"arguments": {}, "name": "now"}</tool_call>\n<tool_call>\n{"name": "get_weather", '
        '"arguments": "{\\"city\\": \\"Oslo\\", \\"days\\": 3}"}</tool_call>\nDone.',
        "I look.Done.",
        [NOW, OSLO],
    ),
    "hermes, a list": (
        "hermes",
        '<tool_call>[{"name": "now"}, {"name": "now", "arguments": null}]</tool_call>',
        "",
        [NOW, NOW],
    ),
    "hermes, marker in an argument": (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call> \\"}"}}</tool_call>',
        "",
        [("get_weather", {"city": '</tool_call> "}'})],
    ),
    "hermes, no call": ("hermes", "<tool_call>no JSON</tool_call> here", "<tool_call>no JSON</tool_call> here", []),
    "hermes, no name": (
        "hermes",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        [],
    ),
    "hermes, cut": ("hermes", 'Well <tool_call>{"name": "no', 'Well <tool_call>{"name": "no', []),
    "hermes, only opened": ("hermes", "Well.\n<tool_call>\n", "Well.\n", []),
    "no call at all": ("hermes", "  2 < 3 <tool ", "  2 < 3 <tool ", []),
    "qwen": (
        "qwen-xml",
        "Sure.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo </parameter> x\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n<parameter=metric>\nTrue\n</parameter>\n</function>\n</tool_call>",
        "Sure.",
        [("get_weather", {"city": "Oslo </parameter> x", "days": 3, "metric": True})],
    ),
    "qwen, in one line": (
        "qwen-xml",
        "<function=get_weather><parameter=days>3.0</parameter></function>",
        "",
        [("get_weather", {"days": 3})],
    ),
    "glm": (
        "glm",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>now</tool_call>",
        "",
        [OSLO, NOW],
    ),
    "llama": ("llama", '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 3}}', "", [OSLO]),
    "llama, two": (
        "llama",
        '«<|python_tag|>»{"name": "now", "parameters": {}}; {"type": "function", "name": "now"}',
        "",
        [NOW, NOW],
    ),
    "llama, other JSON": ("llama", '{"name": "Bo", "age": 3}', '{"name": "Bo", "age": 3}', []),
    "llama, unknown function": ("llama", ' {"name": "f", "parameters": {}}', ' {"name": "f", "parameters": {}}', []),
    "mistral, a list": (
        "mistral",
        '«[TOOL_CALLS]» [{"name": "now", "arguments": {}}, {"name": "get_weather", "arguments": {"city": "Oslo", '
        '"days": 3}}]',
        "",
        [NOW, OSLO],
    ),
    "mistral": (
        "mistral",
        "Let me see.«[TOOL_CALLS]»now«[ARGS]»{}«[TOOL_CALLS]»get_weather«[CALL_ID]»abc«[ARGS]»"
        '{"city": "Oslo", "days": 3}',
        "Let me see.",
        [NOW, OSLO],
    ),
    "pythonic": ("pythonic", "[get_weather(city='Oslo', days=3), now()]", "", [OSLO, NOW]),
    "pythonic, marked": (
        "pythonic",
        '«<|tool_call_start|>»[get_weather("Oslo", days=3)]«<|tool_call_end|>»',
        "",
        [OSLO],
    ),
    "pythonic, a list of others": ("pythonic", "[1, 2] and [now]", "[1, 2] and [now]", []),
    "pythonic, no plain value": ("pythonic", "[now(x=f())]", "[now(x=f())]", []),
    "deepseek": (
        "deepseek",
        "Hm.«<｜tool▁calls▁begin｜>»«<｜tool▁call▁begin｜>»now«<｜tool▁sep｜>»{}«<｜tool▁call▁end｜>»"
        "«<｜tool▁call▁begin｜>»function«<｜tool▁sep｜>»get_weather\n```json\n"
        '{"city": "Oslo", "days": 3}\n```«<｜tool▁call▁end｜>»«<｜tool▁calls▁end｜>»',
        "Hm.",
        [NOW, OSLO],
    ),
    "deepseek, tags": (
        "deepseek-dsml",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">'
        'Oslo</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        "</｜DSML｜function_calls>",
        "",
        [OSLO],
    ),
    "kimi": (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        "",
        [NOW],
    ),
    "gpt-oss": (
        "gpt-oss",
        "«<|channel|>»commentary«<|message|>»I look.«<|end|>»«<|start|>»assistant«<|channel|>»commentary "
        'to=functions.get_weather «<|constrain|>»json«<|message|>»{"city": "Oslo", "days": 3}«<|call|>»',
        "I look.",
        [OSLO],
    ),
    "gpt-oss, to in the role": (
        "gpt-oss",
        " to=functions.now«<|channel|>»commentary«<|message|>»«<|call|>»",
        "",
        [NOW],
    ),
    "gpt-oss, no head": ("gpt-oss", "Just text.", "Just text.", []),
}
#: Format, answer, whether the prompt has opened the reasoning, reasoning, content.
THOUGHTS = {
    "think": ("think", "<think>\nWell.\n</think>\n\nYes.\n", False, "Well.", "Yes.\n"),
    "opened": ("think", "Well. 1 < 2</think>Yes.", True, "Well. 1 < 2", "Yes."),
    "opened twice": ("think", "\n<think>\nWell.</think>Yes.", True, "Well.", "Yes."),
    "nothing thought": ("think", "<think>\n\n</think>\n\nYes.", False, "", "Yes."),
    "never closed": ("think", "Well, <b", True, "Well, <b", ""),
    "not thought": ("think", "Yes, <think> is a tag", False, "", "Yes, <think> is a tag"),
    "mistral": ("mistral", "«[THINK]»Well.«[/THINK]»Yes.", False, "Well.", "Yes."),
    "gpt-oss": (
        "",
        "«<|channel|>»analysis«<|message|>»Well.«<|end|>»«<|start|>»assistant«<|channel|>»final«<|message|>»Yes.",
        False,
        "Well.",
        "Yes.",
    ),
}


def control_in(text: str) -> frozenset[str]:
    return frozenset(part.partition("»")[0] for part in text.split("«")[1:])


@pytest.mark.parametrize("step", [0, 1, 2, 7])
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read(name: str, step: int) -> None:
    form, answer, content, calls = CALLS[name]
    found = read(mark(answer), form, step=step, control=control_in(answer))
    assert meaning(found) == (content, "", calls)


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("name", THOUGHTS)
def test_reasoning_is_read(name: str, step: int) -> None:
    form, answer, opened, thoughts, content = THOUGHTS[name]
    calls = "" if form else "gpt-oss"
    found = read(mark(answer), calls, form, step=step, opened=opened, control=control_in(answer))
    assert meaning(found) == (content, thoughts, [])


def test_calls_follow_reasoning() -> None:
    answer = '<think>I call <tool_call> now.</think>\n\n<tool_call>{"name": "now"}</tool_call>'
    assert meaning(read(answer, "hermes", "think", step=1)) == ("", "I call <tool_call> now.", [NOW])


def test_arguments_are_streamed() -> None:
    parser = Parser(Reading(calls=CALL_FORMATS["hermes"], tools=TOOLS), lambda number: "id")
    head = parser.feed('<tool_call>{"name": "get_weather", "arguments": {"ci').calls
    more = parser.feed('ty": "Os').calls
    assert head == [
        {"index": 0, "id": "id", "type": "function", "function": {"name": "get_weather", "arguments": '{"ci'}}
    ]
    assert more == [{"index": 0, "function": {"arguments": 'ty": "Os'}}]


def test_a_cut_call_stays_cut() -> None:
    (call,) = tool_calls.merge(read('<tool_call>{"name": "get_weather", "arguments": {"city": "Os', "hermes").calls)
    assert call["function"]["arguments"] == '{"city": "Os'
    (call,) = tool_calls.merge(
        read("<tool_call><function=now><parameter=a>1</parameter><parameter=b>x", "qwen-xml").calls
    )
    assert call["function"]["arguments"] == '{"a": "1", "b": "x'


TEMPLATES = {
    "hermes": "{{ '<tool_call>' }}",
    "qwen-xml": "<tool_call><function=example><parameter=x>",
    "glm": "<tool_call>{{ name }}<arg_key>..</arg_key><arg_value>",
    "llama": 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
    "mistral": "{{- '[TOOL_CALLS]' }}",
    "pythonic": "[func_name1(params_name1=params_value1)]",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "deepseek-dsml": "<｜DSML｜function_calls>",
    "kimi": "<|tool_call_begin|>{{ id }}<|tool_call_argument_begin|>",
    "gpt-oss": "<|start|>assistant<|channel|>analysis<|message|>",
}


def test_formats_are_found_in_templates() -> None:
    assert {name: form.name for name, text in TEMPLATES.items() if (form := call_format([text]))} == {
        name: name for name in CALL_FORMATS
    }
    assert call_format(["{{ tools }}"]) is None
    assert call_format(["<tool_call>"], NONE) is None
    assert call_format(["<tool_call>"], "llama") is CALL_FORMATS["llama"]
    found = reasoning_format(["{% if '</think>' in content %}"])
    assert found is not None and found.name == "think"
    assert reasoning_format([""]) is None
    assert reasoning_format(["<think>"], NONE) is None


def test_the_catalog_knows_the_formats() -> None:
    assert set(TOOL_FORMATS) == {NONE, *CALL_FORMATS}
    assert set(NAMED_REASONING) == {NONE, *REASONING_FORMATS}

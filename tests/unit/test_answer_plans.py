"""Answers that are held to calls and forms: what a model may write, and what comes out, also after a death anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from gateway.errors import InvalidRequest
from gateway.grammars.lark import to_lark
from gateway.grammars.quotient import accepts, rest
from gateway.grammars.tools import require_arguments
from tests.unit.test_answer_runs import ASKED, TOOL, Journal, Letters
from workers.answers.of_model import ModelAnswers
from workers.answers.plan import Plan
from workers.engines.base import SequenceOutput
from workers.engines.grammars.fake_form import FIRST_BYTE, FakeForm

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["city", "unit"],
}
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
STRICT: dict[str, Any] = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
SCHEMAS = {"now": {"type": "object"}, "get_weather": PARAMETERS}
MODELS = {
    "hermes": Letters("{{ tools }} <tool_call>"),
    "hermes that thinks": Letters("{{ tools }} <tool_call> <think>"),
    "hermes, control": Letters("{{ tools }} <tool_call>", ["<tool_call>", "</tool_call>"]),
    "qwen": Letters("{{ tools }} <function=x><parameter=y>"),
    "glm": Letters("{{ tools }} <arg_key><arg_value>"),
    "llama": Letters('{{ tools }} {"name": function name, "parameters":'),
    "mistral": Letters("{{ tools }} [TOOL_CALLS]", ["[TOOL_CALLS]", "[ARGS]"]),
    "mistral, text": Letters("{{ tools }} [TOOL_CALLS]"),
    "mistral that thinks": Letters("{{ tools }} [TOOL_CALLS][THINK]", ["[TOOL_CALLS]", "[THINK]", "[/THINK]"]),
    "pythonic": Letters("{{ tools }} [func_name1("),
    "deepseek": Letters(
        "{{ tools }} <｜tool▁call▁begin｜>", ["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"]
    ),
    "kimi": Letters("{{ tools }} <|tool_call_begin|><|tool_call_argument_begin|>", ["<|tool_call_begin|>"]),
    "gpt-oss": Letters(
        "{{ tools }} <|channel|><|message|>", ["<|channel|>", "<|message|>", "<|constrain|>", "<|end|>"]
    ),
    "unknown": Letters("{{ tools }}"),
}


def plan(tokenizer: Letters, prompt: str = "hi", **asked: Any) -> Plan:
    return ModelAnswers(tokenizer).plan({**ASKED, "tools": [TOOL, WEATHER], **asked}, tokenizer.ids(prompt))


def ids_of(plan: Plan, key: str, *, least: str = "") -> list[int]:
    """What a model without a mind writes: as letters, behind `least`."""
    assert plan.grammar is not None
    left = rest(plan.grammar, least)
    assert left is not None
    form, text = FakeForm(to_lark(left)), bytearray()
    while len(text) < 2000 and (token := form.next_token(key, 64 + len(text))) is not None:
        text.append(token - FIRST_BYTE)
    return [ord(letter) for letter in least + text.decode()]


class Held(Journal):
    """A job whose answer follows its plan."""

    def __init__(self, tokenizer: Letters, **asked: Any) -> None:
        super().__init__(tokenizer, **{"tools": [TOOL, WEATHER], **asked})

    def answer(self, ids: Sequence[int], *, cuts: Sequence[int] = ()) -> dict[str, Any]:
        """The whole message, by claims that die at the cuts."""
        for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
            run = self.claim()
            assert run.choices[0].ids == list(ids[:begin])
            self.make(ids[begin:end], "stop" if end == len(ids) else None)
        return self.message


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@pytest.mark.parametrize("name", MODELS)
def test_a_call_that_must_be_made_is_made_and_valid(name: str, choice: Any) -> None:
    tokenizer = MODELS[name]
    asked = {"tool_choice": choice, "parallel_tool_calls": False}
    for key in ("a", "b", "c"):
        made = plan(tokenizer, **asked)
        least = "<think>hm</think>\n" if name == "hermes that thinks" else ""
        message = Held(tokenizer, **asked).answer(ids_of(made, key, least=least))
        assert message["finish_reason"] == "tool_calls"
        (call,) = message["message"]["tool_calls"]
        assert call["function"]["name"] in (SCHEMAS if choice == "required" else ["get_weather"])
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])
        assert message["message"]["content"] is None
        assert message["message"].get("reasoning_content") == ("hm" if least else None)


def test_several_calls_may_be_made() -> None:
    one = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    several = plan(MODELS["hermes"], tool_choice="required").grammar
    single = plan(MODELS["hermes"], tool_choice="required", parallel_tool_calls=False).grammar
    assert several and single
    assert accepts(several, one) and accepts(several, f"{one}\n{one}") and not accepts(several, "")
    assert accepts(single, one) and not accepts(single, f"{one}\n{one}")
    listed = plan(MODELS["mistral"], tool_choice="required").grammar
    assert listed and accepts(listed, '[{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]')


def test_who_may_choose_is_held_to_strict_functions_only() -> None:
    held = plan(MODELS["hermes"], tools=[TOOL, STRICT]).grammar
    assert held is not None
    begins = 'Well.\n<tool_call>\n{"name": "%s", "arguments": '
    assert accepts(held, "No calls; <tool_ is text")
    assert rest(held, begins % "get_weather" + '{"city": 1') is None
    assert accepts(held, begins % "get_weather" + '{"city": "Oslo", "unit": "c"}}\n</tool_call>')
    assert accepts(held, begins % "now" + '{"anything": [1]}}\n</tool_call>')
    assert plan(MODELS["hermes"]) == Plan(calls=ModelAnswers(MODELS["hermes"]).calls)
    bare = plan(MODELS["llama"], tools=[TOOL, STRICT]).grammar
    assert bare and accepts(bare, "Well {") and not accepts(bare, ' {"a": 1}')
    assert accepts(bare, '{"name": "get_weather", "parameters": {"city": "Oslo", "unit": "c"}}')


@pytest.mark.parametrize("name", ["mistral", "gpt-oss", "pythonic", "hermes, control"])
def test_who_may_choose_can_not_be_held_where_calls_begin_with_control_tokens(name: str) -> None:
    form = {"response_format": {"type": "json_object"}}
    for asked in ({"tools": [STRICT]}, form):
        with pytest.raises(InvalidRequest, match="can't be held to"):
            plan(MODELS[name], **asked)
    assert plan(MODELS[name], tools=[STRICT], tool_choice="none") == Plan(calls=ModelAnswers(MODELS[name]).calls)


def test_an_answer_has_a_form_or_is_a_call() -> None:
    held = plan(MODELS["hermes"], response_format={"type": "json_object"}).grammar
    assert held is not None
    assert accepts(held, '{"a": 1}') and not accepts(held, "Well.")
    assert accepts(held, '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')


def test_reasoning_comes_before_what_has_a_form() -> None:
    asked = {"response_format": {"type": "json_object"}, "tools": None}
    thinks = MODELS["hermes that thinks"]
    free = plan(thinks, **asked).grammar
    opened = plan(thinks, "hi<think>\n", **asked)
    closed = plan(thinks, "hi<think>\n\n</think>\n\n", **asked)
    assert free and opened.grammar and closed.grammar
    assert accepts(free, '{"a": 1}') and accepts(free, '<think>{"b</think>\n\n{"a": 1}')
    assert accepts(opened.grammar, '{"b</think>{"a": 1}') and not accepts(opened.grammar, '{"a": 1}')
    assert accepts(closed.grammar, '{"a": 1}') and not accepts(closed.grammar, '<think>b</think>{"a": 1}')
    message = Held(thinks, **asked).answer(thinks.ids('<think>\nSo.</think>\n\n{"a": 1}'))["message"]
    assert (message["reasoning_content"], message["content"]) == ("So.", '{"a": 1}')


def test_reasoning_that_the_prompt_opened_by_a_control_token_is_shut() -> None:
    thinks = MODELS["mistral that thinks"]
    made = plan(thinks, "hi«[THINK]»", tool_choice=NAMED)
    assert [part[1:] for part in made.prefix] == ["[/THINK]", "[TOOL_CALLS]"]


def test_it_is_the_same_call_wherever_its_worker_dies() -> None:
    """50 deaths, two in each answer."""
    tokenizer = MODELS["hermes that thinks"]
    asked = {"tool_choice": NAMED, "parallel_tool_calls": False}
    made = plan(tokenizer, **asked)
    for key in range(5):
        ids = ids_of(made, str(key), least="<think>Zürich?</think>\n")
        once = Held(tokenizer, **asked).answer(ids)
        for round_ in range(5):
            cuts = sorted({(7 * key + 13 * round_) % len(ids), (29 * round_ + key + 1) % len(ids)})
            assert Held(tokenizer, **asked).answer(ids, cuts=cuts) == once


class Bytes(Letters):
    """Tokens are bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


def test_no_resume_begins_within_a_character() -> None:
    tokenizer = Bytes("<tool_call>")
    answer = tokenizer.encode(
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich 🚀", "unit": "c"}}\n</tool_call>'
    )
    place = answer.index(0xC3)
    for cut in [*range(place - 1, place + 3), *range(place + 6, place + 13)]:
        journal = Held(tokenizer, tool_choice=NAMED)
        journal.claim()
        for token in answer[:cut]:
            journal.make([token])
        begun = journal.claim().choices[0].ids
        assert "\ufffd" not in tokenizer.decode(begun)
        assert cut - 3 <= len(begun) <= cut
        journal.make(answer[len(begun) :], "stop")
        arguments = journal.message["message"]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(arguments) == {"city": "Zürich 🚀", "unit": "c"}


def test_what_is_left_to_write_is_all_that_an_engine_is_told() -> None:
    journal = Held(MODELS["hermes"], tool_choice=NAMED)
    journal.claim()
    journal.make(MODELS["hermes"].ids('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Os'))
    (request,) = journal.claim().requests(0)
    assert request.sampling is not None
    form, text = FakeForm(request.sampling.grammar), bytearray()
    while (token := form.next_token("x", 100 + len(text))) is not None:
        text.append(token - FIRST_BYTE)
    journal.run.take(0, SequenceOutput(0, MODELS["hermes"].ids(text.decode()), None, "stop"))
    journal.write()
    arguments = journal.message["message"]["tool_calls"][0]["function"]["arguments"]
    assert arguments.startswith('{"city": "Os')
    jsonschema.validate(json.loads(arguments), PARAMETERS)


def test_schemas_that_can_not_be_kept_are_refused_before_anybody_queues() -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64", "$dynamicRef": "#x"}}}
    tool = {"type": "function", "function": {"name": "odd", "parameters": odd}}
    require_arguments({"tools": [tool]})
    require_arguments({"tools": [tool], "tool_choice": "none"})
    for asked in (
        {"tool_choice": "required"},
        {"tools": [{"type": "function", "function": {**tool["function"], "strict": True}}]},
    ):
        with pytest.raises(InvalidRequest, match=r"tools\.0\.function\.parameters"):
            require_arguments({"tools": [tool], **asked})

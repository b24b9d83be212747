"""Tools and forms on local models, over HTTP: calls that must be made, by a fake engine and by a real model."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.integration.conftest import CHAT_MODEL, TOOLS
from tests.stack import KEY, Stack

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Zürich"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
NOW: Any = {"type": "function", "function": {"name": "now"}}
SCHEMAS = {"get_weather": PARAMETERS, "now": {"type": "object", "maxProperties": 0}}
ASKED: Any = [{"role": "user", "content": "How is the weather in Zürich?"}]
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
ALLOWED: Any = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]},
}


@pytest.fixture
def sdk(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=0)


def checked(calls: Any) -> list[str]:
    for call in calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    return [call.function.name for call in calls]


@pytest.mark.parametrize("model", [TOOLS, CHAT_MODEL])
@pytest.mark.parametrize("choice", ["required", NAMED, ALLOWED], ids=["required", "named", "allowed"])
def test_a_call_that_must_be_made_is_made(sdk: openai.OpenAI, model: str, choice: Any) -> None:
    asked: Any = {"model": model, "messages": ASKED, "tools": [WEATHER, NOW], "tool_choice": choice, "max_tokens": 200}
    (whole,) = sdk.chat.completions.create(**asked, parallel_tool_calls=False).choices
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (name,) = checked(whole.message.tool_calls)
    if choice != "required":
        assert name == ("now" if choice is ALLOWED else "get_weather")


@pytest.mark.parametrize("model", [TOOLS, CHAT_MODEL])
def test_a_call_is_streamed(sdk: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": ASKED, "tools": [WEATHER], "tool_choice": NAMED, "max_tokens": 200}
    with sdk.chat.completions.stream(**asked) as stream:
        events = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert checked(choice.message.tool_calls) == ["get_weather"]
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert "".join(event.arguments_delta for event in events) == call.function.arguments


def test_a_result_goes_back_and_is_answered(sdk: openai.OpenAI) -> None:
    first = sdk.chat.completions.create(
        model=CHAT_MODEL, messages=ASKED, tools=[WEATHER], tool_choice=NAMED, max_tokens=200
    )
    message = first.choices[0].message
    assert message.tool_calls is not None
    turns = [*ASKED, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    answer = sdk.chat.completions.create(
        model=CHAT_MODEL, messages=turns, tools=[WEATHER], tool_choice="none", max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_a_schema_that_can_not_be_kept_is_refused_with_its_keyword(client: httpx.Client) -> None:
    odd = {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}}
    tools = [{"type": "function", "function": {"name": "odd", "parameters": odd}}]
    asked = {"messages": ASKED, "tools": tools, "tool_choice": "required", "max_tokens": 5}
    refused = client.post(f"/models/{TOOLS}/chat/completions", json=asked)
    assert refused.status_code == 422
    (says,) = refused.json()["data"]["errors"]["tools.0.function.parameters"]
    assert "$dynamicRef" in says

"""OpenAI's own SDK for Python."""

from __future__ import annotations

import json
from typing import Any

import openai
from pydantic import BaseModel

from tests.clients.scenarios import (
    QUESTION,
    TOO_LONG,
    TOOL_DOCUMENT,
    TOOL_NAME,
    TOOL_RESULT,
    Server,
    main,
    raises,
    scenario,
)

TURNS: list[Any] = [{"role": "user", "content": QUESTION}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": TOOL_DOCUMENT,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class City(BaseModel):
    """What is asked for."""

    name: str
    population: int


def connect(server: Server, key: str = "") -> openai.OpenAI:
    """As users make it."""
    return openai.OpenAI(base_url=server.base_url, api_key=key or server.key, max_retries=0, timeout=60)


@scenario
def chat(server: Server) -> None:
    """A whole answer."""
    answer = connect(server).chat.completions.create(
        model=server.model, messages=TURNS, max_completion_tokens=24, temperature=0
    )
    server.check_text(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None and answer.usage.completion_tokens > 0


@scenario
def stream(server: Server) -> None:
    """The loop of the tutorials, which ends at the finish reason; and the usage behind it."""
    chunks = list(
        connect(server).chat.completions.create(
            model=server.model, messages=TURNS, max_tokens=24, stream=True, stream_options={"include_usage": True}
        )
    )
    text = ""
    for chunk in chunks:
        if chunk.choices[0].finish_reason is not None:
            break
        text += chunk.choices[0].delta.content or ""
    server.check_text(text)
    assert chunks[-1].usage is not None and not chunks[-1].choices


@scenario
async def stream_async(server: Server) -> None:
    """The SDK's helper, which puts an answer together."""
    async with (
        openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as client,
        client.chat.completions.stream(model=server.model, messages=TURNS, max_tokens=24, temperature=0) as events,
    ):
        kinds = [event.type async for event in events]
        answer = await events.get_final_completion()
    assert "content.done" in kinds
    server.check_text(answer.choices[0].message.content)


@scenario
def tools(server: Server) -> None:
    """A call, its result, and an answer; the history is kept as the SDK dumps it."""
    client, turns = connect(server), list(TURNS)
    first = client.chat.completions.create(
        model=server.tools_model, messages=turns, tools=[TOOL], tool_choice="required", max_tokens=200, temperature=0
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason in ("tool_calls", "length")
    assert message.tool_calls
    turns.append(message.model_dump())
    for call in message.tool_calls:
        assert call.type == "function" and call.function.name == TOOL_NAME
        assert json.loads(call.function.arguments).keys() == {"city"}
        turns.append({"role": "tool", "tool_call_id": call.id, "content": TOOL_RESULT})
    last = client.chat.completions.create(
        model=server.tools_model, messages=turns, tools=[TOOL], tool_choice="none", max_tokens=24
    )
    server.check_text(last.choices[0].message.content)


@scenario
def tools_streamed(server: Server) -> None:
    """The fragments of a call, put together by the SDK."""
    with connect(server).chat.completions.stream(
        model=server.tools_model,
        messages=TURNS,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": TOOL_NAME}},
        max_tokens=200,
        temperature=0,
    ) as events:
        kinds = {event.type for event in events}
        message = events.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls and message.tool_calls[0].function.name == TOOL_NAME
    assert message.tool_calls[0].function.parsed_arguments.keys() == {"city"}


@scenario
def structured(server: Server) -> None:
    """`parse`, and JSON without a schema."""
    client = connect(server)
    parsed = client.chat.completions.parse(
        model=server.tools_model, messages=TURNS, response_format=City, max_tokens=200, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, City)
    free = client.chat.completions.create(
        model=server.tools_model,
        messages=[{"role": "user", "content": "Say something as JSON."}],
        response_format={"type": "json_object"},
        max_tokens=60,
        temperature=0,
    )
    if free.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(free.choices[0].message.content or ""), dict)


@scenario
def structured_streamed(server: Server) -> None:
    """`parse` of a stream."""
    with connect(server).chat.completions.stream(
        model=server.tools_model, messages=TURNS, response_format=City, max_tokens=200, temperature=0
    ) as events:
        for _ in events:
            continue
        assert isinstance(events.get_final_completion().choices[0].message.parsed, City)


@scenario
def errors(server: Server) -> None:
    """Each of the SDK's kinds."""
    client = connect(server)

    def ask(client: openai.OpenAI = client, **changes: Any) -> Any:
        return client.chat.completions.create(**{"model": server.model, "messages": TURNS, "max_tokens": 1, **changes})

    raises(openai.AuthenticationError, lambda: ask(connect(server, "wrong")))
    missing = raises(openai.NotFoundError, lambda: ask(model="gpt-99"))
    assert (missing.code, missing.param) == ("model_not_found", "model")
    limited = raises(openai.RateLimitError, lambda: [ask(connect(server, server.limited_key)) for _ in range(2)])
    assert int(limited.response.headers["retry-after"]) > 0
    wrong = raises(openai.BadRequestError, lambda: ask(temperature=3))
    assert wrong.param == "temperature"


@scenario
def overflow(server: Server) -> None:
    """A prompt that the model's context does not hold, whole and as a stream."""
    client = connect(server)
    turns: list[Any] = [{"role": "user", "content": TOO_LONG}]
    for streamed in (False, True):

        def ask(streamed: bool = streamed) -> Any:
            return client.chat.completions.create(
                model=server.model,
                messages=turns,
                max_tokens=8,
                stream=streamed,
            )

        error = raises(openai.BadRequestError, ask)
        assert error.code == "context_length_exceeded", error
        assert "maximum context length is" in error.message, error


if __name__ == "__main__":
    main()

"""LiteLLM, as a library and as its proxy uses it: the model's name is `openai/` and ours."""

from __future__ import annotations

import json
from typing import Any

import litellm
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
TOOL = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": TOOL_DOCUMENT,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    """A city."""

    name: str
    population: int


def ask(server: Server, **changes: Any) -> Any:
    """As users call it."""
    settings = {
        "model": f"openai/{server.model}",
        "api_base": server.base_url,
        "api_key": server.key,
        "messages": TURNS,
        "max_tokens": 24,
        "temperature": 0,
        "num_retries": 0,
        "max_retries": 0,
    }
    return litellm.completion(**{**settings, **changes})


@scenario
def chat(server: Server) -> None:
    """A whole answer."""
    answer = ask(server)
    server.check_text(answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0


@scenario
def stream(server: Server) -> None:
    """Its own builder makes a whole answer of the chunks."""
    chunks = list(ask(server, stream=True, stream_options={"include_usage": True}))
    answer: Any = litellm.stream_chunk_builder(chunks, messages=TURNS)
    server.check_text(answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0


@scenario
def tools(server: Server) -> None:
    """A call, its result, and an answer."""
    model, turns = f"openai/{server.tools_model}", list(TURNS)
    first = ask(server, model=model, tools=[TOOL], tool_choice="required", max_tokens=200).choices[0]
    assert first.message.tool_calls
    turns.append(first.message.model_dump())
    for call in first.message.tool_calls:
        assert call.function.name == TOOL_NAME
        assert "city" in json.loads(call.function.arguments)
        turns.append({"role": "tool", "tool_call_id": call.id, "name": TOOL_NAME, "content": TOOL_RESULT})
    last = ask(server, model=model, messages=turns, tools=[TOOL], tool_choice="none")
    server.check_text(last.choices[0].message.content)


@scenario
def structured(server: Server) -> None:
    """A class as the form."""
    answer = ask(server, model=f"openai/{server.tools_model}", response_format=City, max_tokens=200)
    City.model_validate_json(answer.choices[0].message.content)


@scenario
def errors(server: Server) -> None:
    """LiteLLM's own kinds, by which its router decides."""
    raises(litellm.AuthenticationError, lambda: ask(server, api_key="wrong"))
    raises(litellm.NotFoundError, lambda: ask(server, model="openai/gpt-99"))
    raises(litellm.RateLimitError, lambda: [ask(server, api_key=server.limited_key) for _ in range(2)])
    raises(litellm.BadRequestError, lambda: ask(server, temperature=3))


@scenario
def overflow(server: Server) -> None:
    """Recognised as what it is, by which `context_window_fallbacks` work; whole and as a stream."""
    turns = [{"role": "user", "content": TOO_LONG}]
    raises(litellm.ContextWindowExceededError, lambda: ask(server, messages=turns))
    raises(litellm.ContextWindowExceededError, lambda: list(ask(server, messages=turns, stream=True)))


if __name__ == "__main__":
    main()

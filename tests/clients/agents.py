"""OpenAI's Agents SDK. Its default is the responses API: it is set to chat completions, and sends no traces."""

from __future__ import annotations

from typing import Any

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    ToolCallItem,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from pydantic import BaseModel

from tests.clients.scenarios import QUESTION, TOO_LONG, TOOL_RESULT, Server, main, raises, scenario


class City(BaseModel):
    """A city."""

    name: str
    population: int


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: {TOOL_RESULT}"


def agent(server: Server, key: str = "", max_tokens: int = 200, **changes: Any) -> Agent[Any]:
    """As users set it up for another server."""
    client = openai.AsyncOpenAI(base_url=server.base_url, api_key=key or server.key, max_retries=0)
    set_default_openai_client(client, use_for_tracing=False)
    set_default_openai_api("chat_completions")
    set_tracing_disabled(True)
    settings = ModelSettings(max_tokens=max_tokens, temperature=0)
    chosen = {"name": "guide", "model": server.tools_model, "model_settings": settings, **changes}
    if "/" in chosen["model"]:  # what stands before it would be the name of one of its own providers
        chosen["model"] = OpenAIChatCompletionsModel(chosen["model"], client)
    return Agent(**chosen)


@scenario
async def chat(server: Server) -> None:
    """A whole answer."""
    result = await Runner.run(agent(server, max_tokens=24), QUESTION)
    server.check_text(result.final_output)
    assert result.context_wrapper.usage.output_tokens > 0


@scenario
async def stream(server: Server) -> None:
    """Pieces of text as events."""
    result = Runner.run_streamed(agent(server, max_tokens=24), QUESTION)
    kinds = {event.data.type async for event in result.stream_events() if event.type == "raw_response_event"}
    assert "response.output_text.delta" in kinds, kinds
    server.check_text(result.final_output)


@scenario
async def tools(server: Server) -> None:
    """Its loop: a call is required in the first turn, and after its result no more."""
    settings = ModelSettings(max_tokens=200, temperature=0, tool_choice="required", parallel_tool_calls=False)
    result = await Runner.run(agent(server, tools=[weather], model_settings=settings), QUESTION, max_turns=6)
    calls = [item for item in result.new_items if isinstance(item, ToolCallItem)]
    assert calls and calls[0].raw_item.name == "weather"
    server.check_text(result.final_output)


@scenario
async def structured(server: Server) -> None:
    """`output_type`, whole and as a stream."""
    found = await Runner.run(agent(server, output_type=City), QUESTION)
    assert isinstance(found.final_output, City)
    streamed = Runner.run_streamed(agent(server, output_type=City), QUESTION)
    async for _ in streamed.stream_events():
        continue
    assert isinstance(streamed.final_output, City)


@scenario
async def settings_of_openai(server: Server) -> None:
    """What its settings send beside the usual."""
    settings = ModelSettings(
        max_tokens=24, metadata={"a": "b"}, store=False, verbosity="low", prompt_cache_retention="in_memory", top_p=0.9
    )
    result = await Runner.run(agent(server, model_settings=settings), QUESTION)
    server.check_text(result.final_output)


@scenario
def errors(server: Server) -> None:
    """They are those of OpenAI's SDK."""

    def ask(text: str = QUESTION, **changes: Any) -> Any:
        return Runner.run_sync(agent(server, max_tokens=8, **changes), text)

    raises(openai.AuthenticationError, lambda: ask(key="wrong"))
    raises(openai.NotFoundError, lambda: ask(model="gpt-99"))


@scenario
def overflow(server: Server) -> None:
    """A prompt that the model's context does not hold."""
    error = raises(openai.BadRequestError, lambda: Runner.run_sync(agent(server, max_tokens=8), TOO_LONG))
    assert error.code == "context_length_exceeded", error


if __name__ == "__main__":
    main()

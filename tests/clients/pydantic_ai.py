"""Pydantic AI, with its model for OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.scenarios import QUESTION, TOO_LONG, TOOL_NAME, TOOL_RESULT, Server, main, raises, scenario


class City(BaseModel):
    """A city."""

    name: str
    population: int


def connect(server: Server, model: str, key: str = "") -> OpenAIChatModel:
    """As its documentation says for servers like OpenAI's."""
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=server.base_url, api_key=key or server.key))


def agent(server: Server, max_tokens: int = 200, **settings: Any) -> Agent[None, Any]:
    """One that may try again, as a model that only keeps to the form can be wrong in what it says."""
    chosen = ModelSettings(max_tokens=max_tokens, temperature=0)
    return Agent(connect(server, server.tools_model), model_settings=chosen, **settings)


@scenario
def chat(server: Server) -> None:
    """A whole answer."""
    result = agent(server, 24).run_sync(QUESTION)
    server.check_text(result.output)
    assert result.usage.output_tokens > 0


@scenario
async def stream(server: Server) -> None:
    """Pieces of text."""
    async with agent(server, 24).run_stream(QUESTION) as result:
        text = "".join([piece async for piece in result.stream_text(delta=True)])
    server.check_text(text)


@scenario
def tools(server: Server) -> None:
    """The agent's loop ends with an answer: a call, its result, text."""

    def weather(city: str) -> str:
        """The weather in a city."""
        return f"{city}: {TOOL_RESULT}"

    calling = agent(server, tools=[weather])
    result = calling.run_sync(QUESTION)
    parts = [part for message in result.all_messages() for part in message.parts]
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    if server.certain:
        assert [call.tool_name for call in calls] == [TOOL_NAME]
        assert any(isinstance(part, ToolReturnPart) and TOOL_RESULT in str(part.content) for part in parts)
        server.check_text(result.output)


@scenario
def structured_by_schema(server: Server) -> None:
    """Its NativeOutput: the server's own form."""
    assert isinstance(agent(server, output_type=NativeOutput(City)).run_sync(QUESTION).output, City)


@scenario
def structured_by_call(server: Server) -> None:
    """Its ToolOutput, the default: a call is required."""
    assert isinstance(agent(server, output_type=ToolOutput(City)).run_sync(QUESTION).output, City)


@scenario
async def structured_streamed(server: Server) -> None:
    """The form as it grows."""
    async with agent(server, output_type=NativeOutput(City)).run_stream(QUESTION) as result:
        found = [output async for output in result.stream_output()]
    assert isinstance(found[-1], City)


@scenario
def structured_by_prompt(server: Server) -> None:
    """Its PromptedOutput asks for JSON of any kind: what a small model says need not be of the class."""
    if server.certain:
        assert isinstance(agent(server, output_type=PromptedOutput(City)).run_sync(QUESTION).output, City)


@scenario
def errors(server: Server) -> None:
    """By their status."""

    def ask(model: str, key: str, text: str = QUESTION) -> Any:
        return Agent(connect(server, model, key), model_settings=ModelSettings(max_tokens=8)).run_sync(text)

    for status, model, key in (
        (401, server.model, "wrong"),
        (404, "gpt-99", server.key),
    ):
        assert raises(ModelHTTPError, lambda model=model, key=key: ask(model, key)).status_code == status


@scenario
def overflow(server: Server) -> None:
    """A status that says what is wrong, with OpenAI's code."""
    error = raises(ModelHTTPError, lambda: agent(server, 8).run_sync(TOO_LONG))
    assert error.status_code == 400
    assert error.body["code"] == "context_length_exceeded", error.body


if __name__ == "__main__":
    main()

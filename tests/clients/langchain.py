"""LangChain's ChatOpenAI, as its documentation uses it with other servers."""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.clients.scenarios import QUESTION, TOO_LONG, TOOL_RESULT, Server, main, raises, scenario


class City(BaseModel):
    """A city."""

    name: str
    population: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: {TOOL_RESULT}"


def connect(server: Server, **changes: Any) -> ChatOpenAI:
    """As users make it."""
    settings = {"base_url": server.base_url, "api_key": server.key, "model": server.model, "max_tokens": 24}
    return ChatOpenAI(**{**settings, "temperature": 0, "max_retries": 0, **changes})


@scenario
def chat(server: Server) -> None:
    """A whole answer, with its usage."""
    answer = connect(server).invoke(QUESTION)
    server.check_text(answer.content)
    assert answer.usage_metadata and answer.usage_metadata["output_tokens"] > 0


@scenario
def stream(server: Server) -> None:
    """Pieces that add up, with the usage behind them."""
    whole: Any = None
    for piece in connect(server, stream_usage=True).stream(QUESTION):
        whole = piece if whole is None else whole + piece
    server.check_text(whole.content)
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] in ("stop", "length")


@scenario
async def stream_async(server: Server) -> None:
    """The same in an event loop."""
    pieces = [piece.content async for piece in connect(server).astream(QUESTION)]
    server.check_text("".join(map(str, pieces)))


@scenario
def tools(server: Server) -> None:
    """A call, its result, and an answer."""
    model = connect(server, model=server.tools_model, max_tokens=200)
    turns: list[Any] = [HumanMessage(QUESTION)]
    first = model.bind_tools([weather], tool_choice="required").invoke(turns)
    assert first.tool_calls and not first.invalid_tool_calls
    turns.append(first)
    for call in first.tool_calls:
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage)
        turns.append(result)
    server.check_text(model.bind_tools([weather], tool_choice="none").invoke(turns).content)


@scenario
def tools_streamed(server: Server) -> None:
    """Fragments of a call add up."""
    whole: Any = None
    model = connect(server, model=server.tools_model, max_tokens=200)
    for piece in model.bind_tools([weather], tool_choice="weather").stream(QUESTION):
        whole = piece if whole is None else whole + piece
    assert [call["name"] for call in whole.tool_calls] == ["weather"]
    assert whole.tool_calls[0]["args"].keys() == {"city"}


def structured(server: Server, method: str) -> None:
    """An object of the class, by one of LangChain's methods."""
    model = connect(server, model=server.tools_model, max_tokens=200)
    found = model.with_structured_output(City, method=method).invoke(QUESTION)
    assert isinstance(found, City), found


@scenario
def structured_by_schema(server: Server) -> None:
    """Its default method."""
    structured(server, "json_schema")


@scenario
def structured_by_call(server: Server) -> None:
    """By a call of a tool."""
    structured(server, "function_calling")


@scenario
def structured_streamed(server: Server) -> None:
    """The last object of a stream is whole."""
    model = connect(server, model=server.tools_model, max_tokens=200)
    found = list(model.with_structured_output(City).stream(QUESTION))
    assert isinstance(found[-1], City), found


@scenario
def errors(server: Server) -> None:
    """They are those of OpenAI's SDK."""
    raises(openai.AuthenticationError, lambda: connect(server, api_key="wrong").invoke(QUESTION))
    raises(openai.NotFoundError, lambda: connect(server, model="gpt-99").invoke(QUESTION))
    raises(openai.RateLimitError, lambda: connect(server, api_key=server.limited_key).batch([QUESTION, QUESTION]))


@scenario
def overflow(server: Server) -> None:
    """Recognised as what it is, by which LangChain's agents compact their history; whole and as a stream."""
    raises(ContextOverflowError, lambda: connect(server).invoke(TOO_LONG))
    raises(ContextOverflowError, lambda: list(connect(server).stream(TOO_LONG)))


if __name__ == "__main__":
    main()

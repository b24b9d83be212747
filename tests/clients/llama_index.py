"""LlamaIndex's OpenAILike, its class for servers that speak OpenAI's protocol."""

from __future__ import annotations

from typing import Any

import openai
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.scenarios import QUESTION, TOO_LONG, TOOL_RESULT, Server, main, raises, scenario

TURNS = [ChatMessage(role=MessageRole.USER, content=QUESTION)]


class City(BaseModel):
    """A city."""

    name: str
    population: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: {TOOL_RESULT}"


TOOL = FunctionTool.from_defaults(weather)


def connect(server: Server, **changes: Any) -> OpenAILike:
    """As users make it; without the two flags it neither chats nor calls."""
    settings = {
        "model": server.model,
        "api_base": server.base_url,
        "api_key": server.key,
        "max_tokens": 24,
        "temperature": 0,
        "context_window": 8192,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "max_retries": 0,
    }
    return OpenAILike(**{**settings, **changes})


@scenario
def chat(server: Server) -> None:
    """A whole answer."""
    server.check_text(connect(server).chat(TURNS).message.content)


@scenario
def stream(server: Server) -> None:
    """Pieces of text."""
    server.check_text("".join(piece.delta or "" for piece in connect(server).stream_chat(TURNS)))


@scenario
async def stream_async(server: Server) -> None:
    """The same in an event loop."""
    pieces = await connect(server).astream_chat(TURNS)
    server.check_text("".join([piece.delta or "" async for piece in pieces]))


@scenario
def completion(server: Server) -> None:
    """The older API, where a model is no chat model."""
    assert connect(server, is_chat_model=False, model=server.model).complete("Paris is").raw.choices


@scenario
def tools(server: Server) -> None:
    """A call, its result, and an answer."""
    model = connect(server, model=server.tools_model, max_tokens=200)
    first = model.chat_with_tools([TOOL], chat_history=TURNS, tool_required=True)
    calls = model.get_tool_calls_from_response(first)
    assert [call.tool_name for call in calls] == ["weather"]
    assert calls[0].tool_kwargs.keys() == {"city"}
    result = ChatMessage(
        role=MessageRole.TOOL, content=TOOL_RESULT, additional_kwargs={"tool_call_id": calls[0].tool_id}
    )
    server.check_text(model.chat([*TURNS, first.message, result]).message.content)


@scenario
def structured_by_call(server: Server) -> None:
    """Its default: a call of a tool."""
    model = connect(server, model=server.tools_model, max_tokens=200)
    assert isinstance(model.structured_predict(City, PromptTemplate(QUESTION)), City)


@scenario
def structured_by_schema(server: Server) -> None:
    """The server's own form."""
    model = connect(server, model=server.tools_model, max_tokens=200, should_use_structured_outputs=True)
    assert isinstance(model.structured_predict(City, PromptTemplate(QUESTION)), City)


@scenario
def errors(server: Server) -> None:
    """They are those of OpenAI's SDK."""
    raises(openai.AuthenticationError, lambda: connect(server, api_key="wrong").chat(TURNS))
    raises(openai.NotFoundError, lambda: connect(server, model="gpt-99").chat(TURNS))
    limited = connect(server, api_key=server.limited_key)
    raises(openai.RateLimitError, lambda: [limited.chat(TURNS) for _ in range(2)])


@scenario
def overflow(server: Server) -> None:
    """A prompt that the model's context does not hold, whole and as a stream."""
    turns = [ChatMessage(role=MessageRole.USER, content=TOO_LONG)]
    raises(openai.BadRequestError, lambda: connect(server, max_tokens=8).chat(turns))
    raises(openai.BadRequestError, lambda: list(connect(server, max_tokens=8).stream_chat(turns)))


if __name__ == "__main__":
    main()

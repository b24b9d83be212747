"""Instructor, which patches OpenAI's client."""

from __future__ import annotations

from typing import Any

import instructor
import openai
from instructor.core import InstructorRetryException
from pydantic import BaseModel

from tests.clients.scenarios import QUESTION, TOO_LONG, Server, main, raises, scenario

TURNS: list[Any] = [{"role": "user", "content": QUESTION}]


class City(BaseModel):
    """A city."""

    name: str
    population: int


def connect(server: Server, mode: instructor.Mode, key: str = "") -> instructor.Instructor:
    """As its documentation does."""
    client = openai.OpenAI(base_url=server.base_url, api_key=key or server.key, max_retries=0)
    return instructor.from_openai(client, mode=mode)


def ask(server: Server, mode: instructor.Mode, key: str = "", **changes: Any) -> Any:
    """One object."""
    settings = {
        "model": server.tools_model,
        "messages": TURNS,
        "response_model": City,
        "max_tokens": 200,
        "temperature": 0,
    }
    return connect(server, mode, key).chat.completions.create(**{**settings, "max_retries": 0, **changes})


@scenario
def structured_by_call(server: Server) -> None:
    """Its default mode: a call of a tool."""
    assert isinstance(ask(server, instructor.Mode.TOOLS), City)


@scenario
def structured_by_schema(server: Server) -> None:
    """The server's own form."""
    assert isinstance(ask(server, instructor.Mode.JSON_SCHEMA), City)


@scenario
def structured(server: Server) -> None:
    """JSON of any kind, with the schema in the prompt: what a small model says need not be of the class."""
    try:
        assert isinstance(ask(server, instructor.Mode.JSON), City)
    except InstructorRetryException:
        assert not server.certain


@scenario
def structured_streamed(server: Server) -> None:
    """The object as it grows."""
    partial = connect(server, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=server.tools_model, messages=TURNS, response_model=City, max_tokens=200, temperature=0
    )
    assert isinstance(list(partial)[-1].population, int)


@scenario
def errors(server: Server) -> None:
    """What the server has said is the cause."""

    def cause(*args: Any, **changes: Any) -> Any:
        mode = instructor.Mode.TOOLS
        try:
            ask(server, mode, *args, **changes)
        except InstructorRetryException as error:
            return error.__cause__ and (getattr(error.__cause__, "last_attempt", None) or error.__cause__)
        except openai.APIStatusError as error:
            return error
        return None

    for error in (cause("wrong"), cause(model="gpt-99"), cause(messages=[{"role": "user", "content": TOO_LONG}])):
        assert error is not None
    raises((InstructorRetryException, openai.BadRequestError), lambda: ask(server, instructor.Mode.TOOLS, n=0))


if __name__ == "__main__":
    main()

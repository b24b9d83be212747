"""What the programs of all clients have in common: `python -m tests.clients.NAME` runs its scenarios against a server.

A program says in one line of JSON how each has gone. It runs where that client is installed, so this knows the standard
library only.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Of a tool that all programs offer.
TOOL_NAME, TOOL_DOCUMENT, TOOL_RESULT = "weather", "The weather in a city.", "It rains."
QUESTION = "What is the capital of France?"
#: What the server behind the remote model says to everybody, unless it calls a tool or has to answer with JSON.
SAID = "The capital of France is Paris."
#: What editors of code ask for, and what comes of it.
EDIT_FILE, EDIT_QUESTION, EDITED = "greet.py", "Make greet.py say hello.", "print('hello')\n"
#: Before the name of the one tool that is to be called, of those that an agent offers.
USE_ONLY = "Use only the tool"
#: More than the context of any model that the programs ask.
TOO_LONG = "word " * 9_000


@dataclass(frozen=True)
class Server:
    """Where a program connects. `model` is what it asks; with `certain` that one always says `SAID`."""

    base_url: str
    key: str
    #: Of a key with which one request a minute can be made: the second of two is refused.
    limited_key: str
    model: str
    #: Takes tools and forms; the same as `model` on the remote path.
    tools_model: str
    certain: bool

    def check_text(self, text: Any) -> None:
        """A text that the model has said."""
        assert isinstance(text, str) and text.strip(), f"no text: {text!r}"
        assert not self.certain or text == SAID, text


Scenario = Callable[[Server], Any]
_SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Of a program: a function that asserts what must hold, also one that is async."""
    _SCENARIOS[function.__name__] = function
    return function


def raises(error: type[BaseException], call: Callable[[], Any]) -> Any:
    """The error that a call raises, which must be of this very kind or below it."""
    try:
        got = call()
    except error as raised:
        return raised
    except BaseException as other:
        raise AssertionError(f"{error.__name__} was to be raised, not {type(other).__name__}: {other}") from other
    raise AssertionError(f"{error.__name__} was to be raised, but there is an answer: {got!r}")


def main() -> None:
    """Run them all, or those that are named. Called at the end of each program."""
    server, names = Server(**json.loads(sys.argv[1])), sys.argv[2:]
    outcomes: dict[str, str] = {}
    for name in names or _SCENARIOS:
        try:
            result = _SCENARIOS[name](server)
            if inspect.isawaitable(result):
                asyncio.run(result)
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    print(f"\n{json.dumps(outcomes)}", flush=True)

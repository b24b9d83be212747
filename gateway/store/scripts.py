"""The Lua scripts beside this file: loaded by digest, run alone or in a pipeline. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import redis

from gateway.store.connection import pipeline
from gateway.store.joined import Command
from gateway.store.metrics import as_lua


class Scripts:
    """All scripts, each with what is counted and `lib.lua` before it, and with the library that its first line without
    flags names (`-- with NAME`).

    They are loaded into Redis whenever it does not know them.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = {name: client.register_script(text) for name, text in _texts().items()}

    def sha(self, name: str) -> str:
        """The digest that EVALSHA takes."""
        return str(self._scripts[name].sha)

    def run(self, name: str, keys: Sequence[str], *args: str | int) -> Any:
        """One script in a round trip of its own."""
        return self.execute_commands([self.call(name, keys, *args)])[0]

    def call(self, name: str, keys: Sequence[str], *args: str | int) -> Command:
        """The command that runs one, for `execute_commands`."""
        return ("EVALSHA", self.sha(name), len(keys), *keys, *args)

    def add(self, pipe: redis.client.Pipeline, name: str, keys: Sequence[str], *args: str | int) -> None:
        """Add a script to a pipeline, which is then to be run with `execute`."""
        pipe.execute_command(*self.call(name, keys, *args))

    def execute(self, pipe: redis.client.Pipeline, *, raise_on_error: bool = True) -> list[Any]:
        """Run a pipeline with scripts, as `execute_commands` does."""
        commands = [command for command, _ in pipe.command_stack]
        return self.execute_commands(commands, raise_on_error=raise_on_error)

    def execute_commands(self, commands: Sequence[Command], *, raise_on_error: bool = True) -> list[Any]:
        """Run commands in one round trip. Scripts that Redis did not know are loaded, and run after the rest.

        Replies, and what `raise_on_error` means, are as `gateway.store.connection.pipeline` has it.
        """
        results = pipeline(self._redis, commands, raise_on_error=False)
        unknown = [i for i, result in enumerate(results) if isinstance(result, redis.exceptions.NoScriptError)]
        if unknown:
            self.load()
            again = pipeline(self._redis, [commands[i] for i in unknown], raise_on_error=False)
            for i, result in zip(unknown, again, strict=True):
                results[i] = result
        if raise_on_error and (errors := [result for result in results if isinstance(result, Exception)]):
            raise errors[0]
        return results

    def load(self) -> None:
        """Load all scripts into Redis."""
        for script in self._scripts.values():
            self._redis.script_load(script.script)


@cache
def _texts() -> Mapping[str, str]:
    """The scripts as Redis gets them, by name. Several parts of a process have them."""
    texts = {path.name: path.read_text() for path in (files("gateway.store") / "lua").iterdir() if path.name[0] != "."}
    libraries = {name.removesuffix(".lua"): texts.pop(name) for name in list(texts) if name.startswith("lib")}
    libraries["lib"] = f"{as_lua()}\n{libraries['lib']}"
    return {name.removesuffix(".lua"): _joined(libraries, text) for name, text in texts.items()}


def _joined(libraries: Mapping[str, str], text: str) -> str:
    """The libraries followed by a script. A first line with flags stays the first, as Redis requires."""
    flags, text = text.split("\n", 1) if text.startswith("#!") else ("", text)
    first = text.partition("\n")[0]
    named = [first.removeprefix("-- with ")] if first.startswith("-- with ") else []
    return "\n".join([*filter(None, [flags]), libraries["lib"], *(libraries[name] for name in named), text])

"""Every command that prints a result knows `--json`, and then prints nothing but JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import click
import pytest

from cli.main import main
from tests.commands import Command, run
from tests.stack import KEY, Stack, running

#: They run until they are ended, talk, or only say that they have done what they were told.
WITHOUT = {"up", "worker", "run", "chat", "join", "accept-empty-redis", "service install", "service remove"}
#: A value of JSON a line.
LINES = {"jobs", "audit", "logs"}
#: What can't be tried beside a system that goes on running, or has tests of its own.
ELSEWHERE = {"restore", "engine install", "engine remove", "nodes forget", "pull", "down"}
TRIED = {
    "add": ("{folder}", "--as", "added", "--dry-run"),
    "audit": (),
    "backup": ("{folder}/backup",),
    "cert": (),
    "check": (),
    "deploy": ("echo",),
    "doctor": (),
    "drain": ("n1", "--no-wait"),
    "engine list": (),
    "files": (),
    "jobs": (),
    "key create": ("json",),
    "key list": (),
    "key show": ("json",),
    "key update": ("json", "--weight", "2"),
    "key rotate": ("json",),
    "key revoke": ("json",),
    "logs": ("agent", "-n", "3"),
    "models": (),
    "models prune": ("--dry-run",),
    "nodes": (),
    "nodes cordon": ("n1",),
    "nodes drain": ("n1", "--no-wait"),
    "nodes label": ("n1", "a=b"),
    "nodes uncordon": ("n1",),
    "show": ("echo",),
    "set": ("mine", "name=Mine"),
    "remove": ("mine",),
    "status": (),
    "token create": (),
    "token list": (),
    "token revoke": ("{token}",),
    "top": (),
    "undrain": ("n1",),
    "unload": ("echo",),
    "usage": (),
}


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """All that can be typed, and what it runs."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*words, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def test_every_command_that_prints_a_result_knows_json() -> None:
    knows = {name: any("--json" in one.opts for one in command.params) for name, command in commands(main)}
    assert {name for name, does in knows.items() if not does} == WITHOUT
    assert {name for name, does in knows.items() if does} == TRIED.keys() | ELSEWHERE


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    catalog = '[models.echo]\ncapabilities = ["chat"]\nengine = "fake"\n'
    with running(tmp_path_factory.mktemp("j"), {"fake": {}}, catalog=catalog, listen="127.0.0.1:1") as stack:
        yield stack


def test_what_they_print_then_is_json_and_nothing_else(stack: Stack) -> None:
    with stack.client() as client:
        client.post("/models", json={"id": "mine", "model": {"capabilities": ["chat"], "engine": "fake"}})
        token = client.post("/join-tokens", json={}).json()["data"]["id"]
    folder = stack.folder / "model"
    folder.mkdir()
    typed = [
        (name, [*name.split(), *(word.format(folder=folder, token=token) for word in words), "--json"])
        for name, words in TRIED.items()
    ]
    environ = {**os.environ, **stack.settings.environ(), "HEADRACE_API_KEY": KEY}
    # Of key and usage: without --url it is this machine's Redis.
    for (name, _), said in zip(typed, run([Command(words) for _, words in typed], environ), strict=True):
        texts = said.stdout.splitlines() if name in LINES else [said.stdout]
        if name in ("add", "drain", "nodes drain", "doctor"):  # what they find is wrong
            assert said.status in (0, 1), (name, said)
            texts = [text for text in texts if text]
        else:
            assert said.status == 0, (name, said)
            assert texts or name == "logs", name
        for text in texts:
            json.loads(text)

"""The commands of `headrace`, as `--help` shows them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.main import main

#: Columns of a terminal.
WIDTH = 100


def text() -> str:
    """A section for each command."""
    return "\n".join(_sections(main, "headrace", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=WIDTH, terminal_width=WIDTH)
    path = context.command_path
    yield f"## `{path}`\n" if parent is None or parent.parent is None else f"### `{path}`\n"
    yield f"```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found and not found.hidden:
                yield from _sections(found, child, context)

"""What commands print, on a terminal or pipe that may be closed at any time, or into a file or
journal, which gets no secret.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

from gateway.access.secret_files import secret_file
from gateway.settings import Settings

T = TypeVar("T")

#: Of commands that print results.
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON.")

#: Set when a write has failed.
_closed = threading.Event()


def say(text: str, *, err: bool = False) -> None:
    """Print one line; `err`: where the standard output is for programs."""
    if err:
        click.echo(f"headrace | {text}", err=True)
    else:
        show(f"headrace | {text}")


def show(text: str, *, nl: bool = True) -> None:
    """Print a text. A closed terminal or pipe is noted, not raised."""
    try:
        click.echo(text, nl=nl)
    except OSError:
        if not stat.S_ISSOCK(_mode()):  # the journal's end is no reason to end, too
            _closed.set()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_json(data: object) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def counted(items: Iterable[T], what: str) -> Iterator[T]:
    """Pass items on. A terminal shows how many have passed."""
    if not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, label=f"  {what}", show_pos=True, file=sys.stderr) as bar:
        yield from bar


def shown_secret(settings: Settings, name: str) -> str:
    """A secret, to be shown on the terminal; if the output goes to a file or journal, the command that shows it."""
    secret = secret_file(settings, name)
    path = shlex.quote(str(settings.data_dir.absolute() / "keys" / name))
    is_kept = stat.S_ISREG(_mode()) or stat.S_ISSOCK(_mode())
    return f"$(cat {path})" if is_kept else secret


def is_closed() -> bool:
    """Whether the terminal or pipe that this process writes to has been closed."""
    if sys.stdout is None or _closed.is_set():
        return _closed.is_set()
    mode = _mode()
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _mode() -> int:
    """What standard output is: systemd's journal is a socket. 0: there is none."""
    return os.fstat(sys.stdout.fileno()).st_mode if sys.stdout is not None else 0

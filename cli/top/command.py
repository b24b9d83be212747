"""`headrace top`: the command, and the terminal that it draws on."""

from __future__ import annotations

import curses
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import click
import httpx

from cli.api.connection import connect, key_option, unreachable, url_option
from cli.api.numbers import Finite
from cli.client import ServerAway
from cli.output import json_option, show_json
from cli.top.screen import Line, Style, lines
from cli.top.snapshot import snapshot
from gateway.errors import InvalidSetting
from gateway.settings import Settings

_STYLES = {Style.PLAIN: curses.A_NORMAL, Style.HEAD: curses.A_BOLD, Style.BAD: curses.A_REVERSE}
_HINT = "q quits"


@click.command()
@click.option("--once", is_flag=True, help="Print it once; so it is where the output is no terminal.")
@click.option("--interval", type=Finite(0.2, 3600), default=2.0, show_default=True, help="Seconds between two looks.")
@json_option
@url_option
@key_option
@click.pass_obj
def top(settings: Settings, once: bool, interval: float, as_json: bool, url: str | None, key: str | None) -> None:
    """Show devices, replicas, tokens/s, slots, queues and who waits at their front, live; q or Ctrl-C quits.

    The key needs the scope deploy.
    """
    with connect(settings, url, key) as client:
        if as_json:
            show_json(snapshot(client))
        elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
            for line in lines(snapshot(client), width):
                click.secho(line.text.rstrip(), bold=line.style is Style.HEAD, reverse=line.style is Style.BAD)
        else:
            _live(lambda width: lines(snapshot(client), width), interval)


def _live(look: Callable[[int], list[Line]], interval_s: float) -> None:
    """Draw until q or Ctrl-C. A server that is away is said, and asked again."""
    try:
        with suppress(KeyboardInterrupt):
            curses.wrapper(_draw, look, interval_s)
    except curses.error as error:
        terminal = os.environ.get("TERM", "")
        raise InvalidSetting(f"The terminal (TERM={terminal}) can't be drawn on; use --once.") from error


def _draw(window: curses.window, look: Callable[[int], list[Line]], interval_s: float) -> None:
    with suppress(curses.error):  # a terminal that can't hide it shows it
        curses.curs_set(0)
    shown: list[Line] = []
    while True:
        _, width = window.getmaxyx()
        try:
            shown, why = look(width), ""
        except httpx.TransportError as error:
            why = unreachable(error)
        except ServerAway as error:
            why = error.message
        _paint(window, [Line(why, Style.BAD), *shown] if why else shown)
        if _quits(window, time.monotonic() + interval_s):
            return


def _quits(window: curses.window, until: float) -> bool:
    """Wait for a key. Another size of the terminal ends the wait, so that it is drawn again."""
    while (left_s := until - time.monotonic()) > 0:
        window.timeout(max(1, int(left_s * 1000)))
        pressed = window.getch()
        if pressed in (ord("q"), ord("Q")):
            return True
        if pressed == curses.KEY_RESIZE:
            break
    return False


def _paint(window: curses.window, every: list[Line]) -> None:
    height, width = window.getmaxyx()
    window.erase()
    for row, line in enumerate([*every, Line(""), Line(_HINT)][:height]):
        with suppress(curses.error):  # the last cell of the last row can't be written
            window.addnstr(row, 0, line.text, width, _STYLES[line.style])
    window.refresh()

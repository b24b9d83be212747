"""`headrace logs`: what the processes of this machine have logged, as text, whatever form it is written in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import click

from gateway.process.log_files import Follower, last_lines
from gateway.process.log_lines import text_line
from gateway.settings import Settings

#: Pause between two looks at logs that are followed.
LOOK_S = 0.25


@click.command()
@click.argument("name", required=False)
@click.option("-n", "lines", default=20, show_default=True, help="Lines of each log.")
@click.option("-f", "follow", is_flag=True, help="Go on as the logs grow.")
@click.option("--about", metavar="ID", default="", help="Only lines with this id of a request, job or API key.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.pass_obj
def logs(settings: Settings, name: str | None, lines: int, follow: bool, about: str, as_json: bool) -> None:
    """Show the logs of all processes, or of one."""
    folder = settings.data_dir / "logs"
    known = sorted(path.stem for path in folder.glob("*.log"))
    if name and name not in known:
        raise click.ClickException(f"There is no log {name!r} in {folder}; there are: {', '.join(known) or 'none'}.")
    paths = [folder / f"{log}.log" for log in known if name in (None, log)]
    followers = {path: Follower(path) for path in paths}
    output = Output(as_json=as_json, titled=len(paths) > 1)
    for path in paths:
        output.show(path, last_lines(path, lines, about=about))
    try:
        while follow:
            time.sleep(LOOK_S)
            for path, follower in followers.items():
                output.show(path, [line for line in follower.new_lines() if about in line])
    except KeyboardInterrupt:
        return


class Output:
    """Prints lines of several logs, each under its name, as `tail` does."""

    def __init__(self, *, as_json: bool, titled: bool) -> None:
        self._as_json = as_json
        self._titled = titled
        self._last = Path()

    def show(self, path: Path, lines: Iterable[str]) -> None:
        """Print lines of one log."""
        for line in lines:
            if self._titled and not self._as_json and path != self._last:
                click.echo(f"{'' if self._last == Path() else chr(10)}==> {path} <==")
                self._last = path
            click.echo(as_object(line) if self._as_json else as_text(line))


def as_object(line: str) -> str:
    """A line as a JSON object. Those that libraries and Redis write are its message."""
    try:
        is_object = isinstance(json.loads(line), dict)
    except ValueError:
        is_object = False
    return line if is_object else json.dumps({"message": line}, ensure_ascii=False)


def as_text(line: str) -> str:
    """A line as text. Those that libraries and Redis write stay as they are."""
    try:
        entry = json.loads(line)
        return text_line({name: str(value) for name, value in entry.items()})
    except (AttributeError, KeyError, ValueError):
        return line

"""The events of deployments and additions on a terminal: one line for each stage, with log lines in between."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import httpx

from cli.client import EventStream, raise_for_error

_BAR = 24


@dataclass
class Bars:
    """Shows events as they come; on the standard error, and on a terminal only, if results there are for programs."""

    for_programs: bool = False
    stage: str = ""
    seen: set[str] = field(default_factory=set)

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if self.for_programs and not sys.stderr.isatty():
            return
        if event["event"] == "log":
            self._end_line()
            self._print(f"  {event['level']:7} {event['message']}")
        elif event["event"] == "stage":
            self._show_stage(event)
        elif event["event"] == "found":
            self._end_line()
            for line in described(event["found"]):
                self._print(f"  {line}")

    def _show_stage(self, event: Mapping[str, Any]) -> None:
        stage, status, percent = event["stage"], event["status"], event["progress"]
        if not (sys.stderr if self.for_programs else sys.stdout).isatty():
            if f"{stage} {status}" not in self.seen:
                self.seen.add(f"{stage} {status}")
                self._print(f"  {stage}: {status}")
            return
        if stage != self.stage:
            self._end_line()
            self.stage = stage
        done = _BAR * percent // 100
        bar = f"[{'#' * done}{'.' * (_BAR - done)}] {percent:3d}% {stage} {status:12}"
        self._print(f"\r  {bar} {_transfer(event):40}", nl=False)
        if status != "in_progress":
            self._end_line()

    def _end_line(self) -> None:
        if self.stage:
            self._print("")
        self.stage = ""

    def _print(self, text: str, *, nl: bool = True) -> None:
        click.echo(text, nl=nl, err=self.for_programs)


def follow(client: httpx.Client, path: str, *, for_programs: bool = False) -> dict[str, Any]:
    """Show a deployment or an addition, by its path, to its end. Returns how it ended. Ctrl-C cancels it.

    Raises:
        ServerError: it is not known any more, or the server did not come back.
    """
    bars = Bars(for_programs=for_programs)
    try:
        for event in events(client, path):
            bars.show(event)
    except KeyboardInterrupt:
        client.delete(path)
        click.echo("\ncancelling; what was done is undone", err=for_programs)
        for event in events(client, path):
            bars.show(event)
    ended = client.get(path)
    raise_for_error(ended)
    data: dict[str, Any] = ended.json()["data"]
    return data


def events(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """The events of a deployment or an addition up to its end, across broken connections, without its failure."""
    for event in EventStream(client, url=f"{path}/events"):
        if event.event != "error":
            yield json.loads(event.data)


def described(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found out about a model, for people, a line each."""
    facts, entry, plan = found["facts"], found["entry"], found["memory_plan"]
    size = f"{size_text(facts['size_bytes'])}" if facts.get("size_bytes") else ""
    about = [facts.get(name) for name in ("format", "architecture", "dtype", "license")]
    yield f"{found['id']}: {', '.join(filter(None, [*about, size]))}"
    yield f"source {found['source']}"
    context = entry.get("context_length") or facts.get("context_length") or "not said"
    yield f"engine {entry['engine']}, quantization {entry.get('quantization') or 'none'}, context {context}"
    yield f"can: {', '.join(entry['capabilities'])}"
    yield f"takes {size_text(plan['total_bytes'])} of {size_text(plan['free_bytes'])} free memory"
    for warning in found["warnings"]:
        yield f"note: {warning}"


def size_text(size: float) -> str:
    """Bytes for people, such as 1.53 GB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _transfer(event: Mapping[str, Any]) -> str:
    """Bytes, speed and the time that is left, of a stage that has them."""
    if event.get("bytes_total") is None:
        return ""
    parts = [f"{size_text(event['bytes_done'])} of {size_text(event['bytes_total'])}"]
    if event.get("bytes_per_second"):
        parts.append(f"{size_text(event['bytes_per_second'])}/s")
    if event.get("eta_s"):
        parts.append(f"{event['eta_s']:.0f} s left")
    return ", ".join(parts)

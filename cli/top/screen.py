"""The lines of `headrace top`, out of a snapshot. Knows no terminal but its width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from cli.api.progress import size_text


class Style(StrEnum):
    """How a line looks."""

    PLAIN = "plain"
    #: Names of columns.
    HEAD = "head"
    #: Something is wrong there.
    BAD = "bad"


class Line(NamedTuple):
    """One line."""

    text: str
    style: Style = Style.PLAIN


def lines(found: Mapping[str, Any], width: int) -> list[Line]:
    """All lines, cut to a width."""
    every = [*_totals(found), *_nodes(found), *_replicas(found), *_queues(found), *_jobs(found)]
    return [Line(line.text[:width], line.style) for line in every]


def _totals(found: Mapping[str, Any]) -> Iterator[Line]:
    totals, at = found["totals"], f"{datetime.fromisoformat(found['at']).astimezone():%H:%M:%S}"
    ready = "ready" if found["ready"] else "NOT READY"
    text = f"{found['url']}  {ready} (redis {found['redis']}, keeper {found['keeper']})  {at}"
    yield Line(text, Style.PLAIN if found["ready"] else Style.BAD)
    yield Line(
        f"{totals['tokens_per_second']:g} tokens/s, {totals['slots_used']} of {totals['slots']} slots, "
        f"{totals['waiting']} wait, the longest for {_seconds(totals['longest_wait_s'])}"
    )


def _nodes(found: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("")
    yield Line(f"{'DEVICE':28} {'STATE':10} {'MEMORY FREE':20} HARDWARE", Style.HEAD)
    for node in found["nodes"]:
        for one in node["devices"]:
            memory = f"{one['memory_free_bytes'] / 1e9:.1f} of {one['memory_bytes'] / 1e9:.1f} GB"
            text = f"{node['name'] + '.' + one['device']:28} {one['state']:10} {memory:20} {one['hardware']}"
            yield Line(text, Style.BAD if one["state"] == "gone" else Style.PLAIN)


def _replicas(found: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("")
    yield Line(f"{'MODEL':28} {'ON':20} {'HEALTH':10} {'SLOTS':>9} {'TOKENS/S':>9}  MEMORY", Style.HEAD)
    for one in sorted(found["replicas"], key=lambda one: (one["model"], one["replica_id"])):
        slots, where = f"{one['sequences']}/{one['slots']}", f"{one['node']}.{one['device']}"
        planned = f" of {size_text(one['planned_bytes'])}" if one["planned_bytes"] else ""
        text = f"{one['model']:28} {where:20} {one['health']:10} {slots:>9} {one['tokens_per_second']:>9g}  "
        style = Style.PLAIN if one["health"] in ("healthy", "loading", "asleep") else Style.BAD
        yield Line(f"{text}{size_text(one['memory_bytes'])}{planned}", style)


def _queues(found: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("")
    yield Line(
        f"{'QUEUE':28} {'RUNNING':>9} {'WAITING':>9} {'LONGEST':>9} {'BACKGROUND':>11} {'LONGEST':>9}", Style.HEAD
    )
    for one in found["queues"]:
        interactive, background = one["interactive"], one["background"]
        longest, behind = (_seconds(line["oldest_wait_s"]) for line in (interactive, background))
        text = f"{one['id']:28} {one['running']:>9} {interactive['waiting']:>9} {longest:>9} "
        yield Line(f"{text}{background['waiting']:>11} {behind:>9}")


def _jobs(found: Mapping[str, Any]) -> Iterator[Line]:
    if not found["jobs"]:
        return
    yield Line("")
    yield Line(f"{'AT THE FRONT':34} {'MODEL':22} {'KEY':17} {'STATUS':12} {'POSITION':>8} {'ETA':>8}", Style.HEAD)
    for one in found["jobs"]:
        eta = "" if one.get("eta_s") is None else _seconds(one["eta_s"])
        text = f"{one['job_id']:34} {one['model']:22} {one['key_id']:17} {one['status']:12} "
        yield Line(f"{text}{one.get('position') or '':>8} {eta:>8}")


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 600 else f"{value / 60:.0f} min"

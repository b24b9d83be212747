"""`headrace jobs`: the jobs of all keys, or of one, and how they go on; over the HTTP API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import Any

import click
import httpx

from cli.api.connection import connect, key_option, url_option
from cli.api.numbers import seconds_of
from cli.client import pages, patiently
from gateway.settings import Settings
from schemas.jobs import STATUSES

#: Pause between two looks.
LOOK_S = 1.0
#: Statuses of jobs that go on.
_OPEN = ("pending", "in_progress", "cancelling")

Job = dict[str, Any]


@click.command()
@click.argument("name", required=False)
@click.option("--status", type=click.Choice(STATUSES), help="Only those of one status.")
@click.option("--model", help="Only those that asked for this model.")
@click.option("--kind", help="Only one kind: chat, completion, embedding, deployment, addition.")
@click.option("--since", help="Only those made since: a time in ISO 8601, or 45m, 12h, 7d ago.")
@click.option("-n", "most", type=click.IntRange(min=0), default=50, show_default=True, help="The newest; 0: all.")
@click.option("-f", "--follow", is_flag=True, help="Go on: each job when it is made, begins and ends.")
@click.option("--json", "as_json", is_flag=True, help="As the API gives it, one job a line.")
@url_option
@key_option
@click.pass_obj
def jobs(
    settings: Settings,
    /,
    name: str | None,
    most: int,
    follow: bool,
    as_json: bool,
    url: str | None,
    key: str | None,
    status: str | None,
    since: str | None,
    **wanted: str | None,
) -> None:
    """List jobs, the newest last. NAME: of one key, by its id or name; else of all keys, for an admin."""
    given = {"key": name, "since": _since(since) if since else None, **wanted}
    query = {field: value for field, value in given.items() if value}
    with connect(settings, url, key) as client:
        # Who follows sees jobs before they have the status that is asked for.
        first = query if follow or not status else {**query, "status": status}
        newest = list(islice(pages(client, "/jobs", "jobs", first), most or None))[::-1]
        for job in chain(newest, changes(client, query, [*_open(client, query), *newest]) if follow else ()):
            if status in (None, job["status"]):
                click.echo(json.dumps(job, ensure_ascii=False) if as_json else _line(job))


def _open(client: httpx.Client, query: Mapping[str, str]) -> Iterator[Job]:
    """The jobs of a query that go on, also those that are older than the ones that were asked for."""
    for status in ("pending", "in_progress"):
        yield from pages(client, "/jobs", "jobs", {**query, "status": status})


def changes(client: httpx.Client, query: Mapping[str, str], shown: list[Job]) -> Iterator[Job]:
    """Each job of a query that is made from now on, and these and those again with each new status; of those that are
    shown twice the later one counts. A server that is away for a while is asked again.

    Raises: ServerError; httpx.TransportError if it stays away.
    """
    while True:
        time.sleep(LOOK_S)
        known = {job["job_id"]: job["status"] for job in shown}
        # Whatever changes is as old as the oldest that goes on, or younger than all that are known.
        oldest = min((job["created_at"] for job in shown if job["status"] in _OPEN), default="")
        since = oldest or max((job["created_at"] for job in shown), default="")
        since_then = {**query, "since": since} if since else query
        shown = patiently(partial(_all, client, since_then))[::-1]
        yield from (job for job in shown if known.get(job["job_id"]) != job["status"])


def _all(client: httpx.Client, query: Mapping[str, str]) -> list[Job]:
    return list(pages(client, "/jobs", "jobs", query))


def _since(text: str) -> str:
    seconds = seconds_of(text)
    return text if seconds is None else (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def _line(job: Job) -> str:
    made = f"{datetime.fromisoformat(job['created_at']).astimezone():%Y-%m-%d %H:%M:%S}"
    what = f"{job['kind']:10}  {job['model']:24}  {job['key_id']:16}  {job['status']:11}"
    return f"{made}  {job['job_id']:33}  {what}  {_outcome(job)}".rstrip()


def _outcome(job: Job) -> str:
    """Why it failed, what it used, or what it waits for."""
    if job["error"]:
        return str(job["error"].get("reason", ""))
    if job["usage"]:
        return f"{job['usage']['prompt_tokens']} + {job['usage']['completion_tokens']} tokens"
    return f"position {job['position']}" if job.get("position") else ""

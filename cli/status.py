"""`headrace status`: what runs in the data folder, and how the gateway is; with `--url`, one elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import click
import httpx

from cli import leftovers
from cli.api.connection import connect, http_url, key_option, url_option
from cli.client import ServerError, raise_for_error
from cli.output import say, show_json
from cli.preflight import not_read
from cli.up import supervisor_of
from gateway.joined import read_joined
from gateway.settings import Settings
from gateway.store.installation import REMEDY


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The readiness as the API gives it.")
@url_option
@key_option
@click.pass_obj
def status(settings: Settings, as_json: bool, url: str | None, key: str | None) -> None:
    """Say what runs, and how it is.

    Exit status 3: nothing runs here; 1: it runs without 'headrace up'; with --url, 1: it is not ready.
    """
    if not url and not as_json and not _show_processes(settings):
        return
    with connect(settings, url, key) as client:
        version = _data(client.get("/")).get("version", "of an unknown version")
        response = client.get("/health/ready")
        nodes = [] if as_json else _nodes(client)
    data = _data(response, 200, 503)
    if as_json:
        show_json(data)
    else:
        if url:
            say(f"Headrace {version} at {url}")
        _show_health(data, is_ready=response.is_success)
        _show_held(nodes)
    if url and not response.is_success:
        sys.exit(1)


def _show_processes(settings: Settings) -> bool:
    """Of the data folder. Returns whether one of them serves the API. Ends the command if nothing supervises them."""
    pid = supervisor_of(settings.data_dir)
    path = settings.data_dir / "run" / "status.json"
    if not pid or not path.exists():
        _unsupervised(settings)
    say(f"up, process {pid}, {http_url(settings)}")
    found = json.loads(path.read_text())
    for name, entry in found["processes"].items():
        state = f"process {entry['pid']}" if entry["pid"] else "waiting to start again"
        why = f" (the last time it {entry['ended']})" if entry["restarts"] else ""
        click.echo(f"  {name:8} {state}, {entry['restarts']} restarts{why}")
    for name, why in found["left_out"].items():
        click.echo(f"  {name:8} not installed: {why}")
    if "web" in found["processes"]:
        return True
    click.echo(f"  joined   {read_joined(settings.data_dir).get('gateway', 'by its settings')}")
    return False


def _unsupervised(settings: Settings) -> NoReturn:
    """Print the processes that run without `headrace up`, and exit."""
    left = leftovers.running(settings.data_dir)
    if not left:
        say(f"not running in {settings.data_dir}")
        for line in not_read(settings):
            say(line)
        sys.exit(3)
    say("no 'headrace up' runs here, but what it has left does; 'headrace up' takes over, 'headrace down' ends it")
    for name, holder in left.items():
        click.echo(f"  {name:8} process {holder.pid}")
    sys.exit(1)


def _show_health(data: dict[str, Any], *, is_ready: bool) -> None:
    """A line for each part."""
    click.echo(f"  ready    {'yes' if is_ready else 'no'} (redis {data['redis']}, keeper {data['keeper']})")
    if data["redis"] == "lost":
        click.echo(f"  REDIS HAS LOST ITS DATA. {REMEDY}")
    if data.get("durability"):
        click.echo(f"  redis    {data['durability']}")
    for problem in data.get("catalog_problems", ()):
        click.echo(f"  catalog  {problem}")
    for replica, health in data["replicas"].items():
        click.echo(f"  replica  {replica}: {health}")
    for provider, health in data["providers"].items():
        click.echo(f"  remote   {provider}: {health}")


def _nodes(client: httpx.Client) -> list[dict[str, Any]]:
    """All nodes; none for who may not see them. The rest of the status needs no key."""
    try:
        response = client.get("/nodes")
    except ServerError:
        return []
    return list(response.json()["data"]["nodes"]) if response.is_success else []


def _show_held(nodes: Iterable[dict[str, Any]]) -> None:
    """Who takes no new replicas."""
    for node in nodes:
        held = {node["name"]: node["state"]}
        if node["state"] in ("ready", "gone"):
            held = {f"{node['name']}.{device['device']}": device["state"] for device in node["devices"]}
        for name, state in held.items():
            if state in ("draining", "cordoned"):
                click.echo(f"  held     {name}: {state} ('headrace undrain {name}' ends that)")


def _data(response: httpx.Response, *expected: int) -> dict[str, Any]:
    """Raises: ServerError, unless the status is a good or an expected one."""
    if response.status_code not in expected:
        raise_for_error(response)
    return dict(response.json()["data"])

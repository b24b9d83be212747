"""`headrace nodes`: the machines of this installation, from a terminal, over the HTTP API."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from gateway.settings import Settings
from schemas.cluster.nodes import LABEL_KEY, LABEL_RULE, LABEL_VALUE

#: Pause between two looks at a node that is drained.
LOOK_S = 0.5


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As the API gives it.")
@url_option
@key_option
@click.pass_context
def nodes(ctx: click.Context, as_json: bool, url: str | None, key: str | None) -> None:
    """List the machines of this installation, also those that are gone; drain, label and forget them."""
    if ctx.invoked_subcommand:
        return
    with connect(ctx.obj, url, key) as client:
        found = _data(client.get("/nodes"))["nodes"]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for node in found:
        _show(node)


@nodes.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Unload what fits nowhere else, too.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is empty.")
@click.option("--timeout", "timeout_s", type=float, default=3600.0, show_default=True, help="Seconds to wait at most.")
@url_option
@key_option
@click.pass_obj
def drain(
    settings: Settings, name: str, force: bool, wait: bool, timeout_s: float, url: str | None, key: str | None
) -> None:
    """Move a node's replicas elsewhere where they fit, and give it no new ones. Its running requests end first.

    Exit status 1: something stays there. Ctrl-C ends the waiting, not the drain; `uncordon` undoes it.
    """
    deadline = time.monotonic() + timeout_s
    said: set[str] = set()
    with connect(settings, url, key) as client:
        while True:
            answer = _data(client.post(f"/nodes/{name}/drain", params={"force": str(force).lower()}))
            for move in answer["models"]:
                _say_once(said, _described(move))
            if not answer["node"]["replicas"]:
                click.echo(f"{name}: empty, and takes no new replicas; 'headrace nodes uncordon {name}' ends that")
                return
            outcomes = {move["outcome"] for move in answer["models"]}
            if outcomes == {"staying"}:
                raise click.ClickException(f"What fits nowhere else stays on {name}. With --force it is unloaded.")
            if not wait:
                return
            if time.monotonic() > deadline:
                raise click.ClickException(f"{name} is not empty after {timeout_s:g} s; the drain goes on.")
            time.sleep(LOOK_S)


@nodes.command()
@click.argument("name")
@url_option
@key_option
@click.pass_obj
def cordon(settings: Settings, name: str, url: str | None, key: str | None) -> None:
    """Give a node no new replicas; those that it has stay."""
    _post(settings, name, "cordon", url, key)


@nodes.command()
@click.argument("name")
@url_option
@key_option
@click.pass_obj
def uncordon(settings: Settings, name: str, url: str | None, key: str | None) -> None:
    """Let a node take new replicas again, also after a drain."""
    _post(settings, name, "uncordon", url, key)


@nodes.command()
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@url_option
@key_option
@click.pass_obj
def label(settings: Settings, name: str, labels: tuple[str, ...], url: str | None, key: str | None) -> None:
    """Set labels of a node (KEY=VALUE), or remove them (KEY-). `deploy --node label:KEY=VALUE` goes by them."""
    changes = dict(map(_change, labels))
    with connect(settings, url, key) as client:
        _show(_data(client.patch(f"/nodes/{name}", json={"labels": changes})))


@nodes.command()
@click.argument("name")
@url_option
@key_option
@click.pass_obj
def forget(settings: Settings, name: str, url: str | None, key: str | None) -> None:
    """Remove a node that is gone from the list, and what it should have run."""
    with connect(settings, url, key) as client:
        dropped = _data(client.delete(f"/nodes/{name}"))["dropped_replicas"]
    click.echo(f"{name}: forgotten" + (f", with {', '.join(dropped)}" if dropped else ""))


def _change(text: str) -> tuple[str, str | None]:
    key, sign, value = text.partition("=")
    if not sign and text.endswith("-") and re.fullmatch(LABEL_KEY, text[:-1]):
        return text[:-1], None
    if not sign or not re.fullmatch(LABEL_KEY, key) or not re.fullmatch(LABEL_VALUE, value):
        raise click.BadParameter(f"got {text!r}; {LABEL_RULE} KEY- removes one.")
    return key, value


def _post(settings: Settings, name: str, what: str, url: str | None, key: str | None) -> None:
    with connect(settings, url, key) as client:
        _show(_data(client.post(f"/nodes/{name}/{what}")))


def _data(response: httpx.Response) -> Any:
    api.raise_for_error(response)
    return response.json()["data"]


def _show(node: dict[str, Any]) -> None:
    labels = " ".join(f"{key}={value}" for key, value in node["labels"].items())
    seen = "" if node["state"] != "gone" else f"last seen {node['last_seen']}"
    words = [node["state"], node["version"], node["address"] or "local", labels, seen]
    click.echo(f"{node['name']:24} {'  '.join(filter(None, words))}")
    for device in node["devices"]:
        free, total = (device[name] / 1e9 for name in ("memory_free_bytes", "memory_bytes"))
        state = f"{free:.1f} of {total:.1f} GB free" if device["alive"] else f"gone, {total:.1f} GB"
        click.echo(f"  {device['device']:8} {state}, {device['hardware']}")
    for replica in node["replicas"]:
        click.echo(f"  replica  {replica['model_id']} on {replica['device']}: {replica['status']}")


def _described(move: dict[str, Any]) -> str:
    what = {
        "moving": f"moves elsewhere (deployment {move['deployment_id']})",
        "ending": "ends here",
        "staying": "stays",
    }[move["outcome"]]
    why = f": {move['reason']}" if move["reason"] else ""
    return f"{move['model_id']}: {what}{why}"


def _say_once(said: set[str], text: str) -> None:
    if text not in said:
        said.add(text)
        click.echo(text)

"""`headrace nodes`: the machines of this installation, from a terminal, over the HTTP API."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.api.numbers import Finite
from cli.output import json_option, show_json
from gateway.settings import Settings
from schemas.cluster.nodes import LABEL_KEY, LABEL_RULE, LABEL_VALUE

#: Pause between two looks at a node that is drained.
LOOK_S = 0.5


@click.group(invoke_without_command=True)
@json_option
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
        show_json(found)
        return
    for node in found:
        _show(node)


place_argument = click.argument("place", metavar="NODE[.DEVICE]")


@nodes.command()
@place_argument
@click.option("--force", is_flag=True, help="Unload what fits nowhere else, too.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is empty.")
@click.option(
    "--timeout", "timeout_s", type=Finite(0), default=3600.0, show_default=True, help="Seconds to wait at most."
)
@json_option
@url_option
@key_option
@click.pass_obj
def drain(
    settings: Settings,
    /,
    place: str,
    force: bool,
    wait: bool,
    timeout_s: float,
    as_json: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Move what a node or a device serves elsewhere where it fits, and give it nothing new. Its running requests end
    first, or go on elsewhere.

    Exit status 1: something stays there. Ctrl-C ends the waiting, not the drain; `undrain` undoes it.
    """
    deadline = time.monotonic() + timeout_s
    said: set[str] = set()
    with connect(settings, url, key) as client:
        path, device = _path(client, place)
        asked = {**device, "force": str(force).lower()}
        while True:
            answer = api.patiently(lambda: _data(client.post(f"{path}/drain", params=asked)))
            here = [one for one in answer["node"]["replicas"] if one["device"] == device.get("device", one["device"])]
            if not as_json:
                for move in answer["models"]:
                    _say_once(said, _described(move))
            is_over = not here or not wait or {move["outcome"] for move in answer["models"]} == {"staying"}
            if is_over or time.monotonic() > deadline:
                break
            time.sleep(LOOK_S)
    if as_json:
        show_json(answer)
    elif not here:
        click.echo(f"{place}: empty, and takes no new replicas; 'headrace undrain {place}' ends that")
    if not here or not wait:
        return
    if is_over:
        raise click.ClickException(f"What fits nowhere else stays on {place}. With --force it is unloaded.")
    raise click.ClickException(f"{place} is not empty after {timeout_s:g} s; the drain goes on.")


@nodes.command()
@place_argument
@json_option
@url_option
@key_option
@click.pass_obj
def cordon(settings: Settings, place: str, as_json: bool, url: str | None, key: str | None) -> None:
    """Give a node or a device no new replicas; those that it has stay."""
    _hold(settings, place, "cordon", as_json=as_json, url=url, key=key)


@nodes.command("uncordon")
@place_argument
@json_option
@url_option
@key_option
@click.pass_obj
def undrain(settings: Settings, place: str, as_json: bool, url: str | None, key: str | None) -> None:
    """Let a node or a device take new replicas again, after a drain or a cordon."""
    _hold(settings, place, "uncordon", as_json=as_json, url=url, key=key)


@nodes.command()
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@json_option
@url_option
@key_option
@click.pass_obj
def label(
    settings: Settings, name: str, labels: tuple[str, ...], as_json: bool, url: str | None, key: str | None
) -> None:
    """Set labels of a node (KEY=VALUE), or remove them (KEY-). `deploy --node label:KEY=VALUE` goes by them."""
    changes = dict(map(_change, labels))
    with connect(settings, url, key) as client:
        _show(_data(client.patch(f"/nodes/{name}", json={"labels": changes})), as_json=as_json)


@nodes.command()
@click.argument("name")
@json_option
@url_option
@key_option
@click.pass_obj
def forget(settings: Settings, name: str, as_json: bool, url: str | None, key: str | None) -> None:
    """Remove a node that is gone from the list, and what it should have run."""
    with connect(settings, url, key) as client:
        data = _data(client.delete(f"/nodes/{name}"))
    dropped = data["dropped_replicas"]
    if as_json:
        show_json(data)
    else:
        click.echo(f"{name}: forgotten" + (f", with {', '.join(dropped)}" if dropped else ""))


def _change(text: str) -> tuple[str, str | None]:
    key, sign, value = text.partition("=")
    if not sign and text.endswith("-") and re.fullmatch(LABEL_KEY, text[:-1]):
        return text[:-1], None
    if not sign or not re.fullmatch(LABEL_KEY, key) or not re.fullmatch(LABEL_VALUE, value):
        raise click.BadParameter(f"got {text!r}; {LABEL_RULE} KEY- removes one.")
    return key, value


def _hold(settings: Settings, place: str, what: str, *, as_json: bool, url: str | None, key: str | None) -> None:
    with connect(settings, url, key) as client:
        path, device = _path(client, place)
        _show(_data(client.post(f"{path}/{what}", params=device)), as_json=as_json)


def _path(client: httpx.Client, place: str) -> tuple[str, dict[str, str]]:
    """Where a node is, and which of its devices is meant. Names of nodes may have dots, too."""
    node, dot, device = place.rpartition(".")
    names = {one["name"] for one in _data(client.get("/nodes"))["nodes"]}
    if not dot or place in names or node not in names:
        return f"/nodes/{quote(place, safe='')}", {}
    return f"/nodes/{quote(node, safe='')}", {"device": device}


def _data(response: httpx.Response) -> Any:
    api.raise_for_error(response)
    return response.json()["data"]


def _show(node: dict[str, Any], *, as_json: bool = False) -> None:
    if as_json:
        show_json(node)
        return
    labels = " ".join(f"{key}={value}" for key, value in node["labels"].items())
    seen = "" if node["state"] != "gone" else f"last seen {node['last_seen']}"
    words = [node["state"], node["version"], node["address"] or "local", labels, seen]
    click.echo(f"{node['name']:24} {'  '.join(filter(None, words))}")
    for device in node["devices"]:
        free, total = (device[name] / 1e9 for name in ("memory_free_bytes", "memory_bytes"))
        memory = f"{free:.1f} of {total:.1f} GB free" if device["alive"] else f"{total:.1f} GB"
        click.echo(f"  {device['device']:8} {device['state']}, {memory}, {device['hardware']}")
    for replica in node["replicas"]:
        click.echo(f"  replica  {replica['model_id']} on {replica['device']}: {replica['status']}")


def _described(move: dict[str, Any]) -> str:
    what = {
        "moving": f"moves elsewhere (deployment {move['deployment_id']})",
        "ending": "ends here",
        "staying": "stays",
    }[move["outcome"]]
    why = f": {move['reason']}" if move["reason"] and move["outcome"] != "moving" else ""
    return f"{move['model_id']}: {what}{why}"


def _say_once(said: set[str], text: str) -> None:
    if text not in said:
        said.add(text)
        click.echo(text)

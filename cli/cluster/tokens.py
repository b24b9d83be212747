"""`headrace token`: the tokens with which machines join, from a terminal, over the HTTP API."""

from __future__ import annotations

import re
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.output import json_option, show_json
from gateway.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(_: click.Context, __: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", value)
    if not found:
        raise click.BadParameter(f"got {value!r}; write such as 30m, 24h or 7d")
    return int(found[1]) * _UNITS[found[2] or "s"]


@click.group()
def token() -> None:
    """Tokens with which other machines join this gateway."""


@token.command()
@click.option("--ttl", "ttl_s", callback=_seconds, default="24h", show_default=True, help="How long it is valid.")
@click.option("--uses", type=int, default=1, show_default=True, help="Machines that it lets in; 0: any number.")
@json_option
@url_option
@key_option
@click.pass_obj
def create(settings: Settings, ttl_s: int, uses: int, as_json: bool, url: str | None, key: str | None) -> None:
    """Make a token, and show the command that joins with it."""
    with connect(settings, url, key) as client:
        made = _data(client.post("/join-tokens", json={"ttl_s": ttl_s, "uses": uses}))
    if as_json:
        show_json(made)
        return
    click.echo(f"headrace join {made['url']} {made['token']}")
    machines = "one machine" if uses == 1 else f"{uses or 'any number of'} machines"
    click.echo(f"  for {machines}, until {made['expires_at']}; token {made['id']}", err=True)


@token.command("list")
@json_option
@url_option
@key_option
@click.pass_obj
def list_tokens(settings: Settings, as_json: bool, url: str | None, key: str | None) -> None:
    """List tokens, newest first; those that have ended for a day."""
    with connect(settings, url, key) as client:
        found = _data(client.get("/join-tokens"))["tokens"]
    if as_json:
        show_json(found)
        return
    for one in found:
        of = f" of {one['uses']}" if one["uses"] else ""
        used = f"{len(one['nodes'])}{of} joined {', '.join(one['nodes'])}".rstrip()
        click.echo(f"{one['id']}  {one['status']:8}  until {one['expires_at']}  {used}")


@token.command()
@click.argument("token_id", metavar="ID")
@json_option
@url_option
@key_option
@click.pass_obj
def revoke(settings: Settings, token_id: str, as_json: bool, url: str | None, key: str | None) -> None:
    """End a token at once. Machines that have joined stay; 'headrace nodes forget' ends that."""
    with connect(settings, url, key) as client:
        data = _data(client.delete(f"/join-tokens/{token_id}"))
    if as_json:
        show_json(data)
    else:
        click.echo(f"{token_id}: {data['status']}")


def _data(response: httpx.Response) -> Any:
    api.raise_for_error(response)
    return response.json()["data"]

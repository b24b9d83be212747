"""`headrace audit`: who has changed keys, models and deployments; over the HTTP API."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice

import click

from cli.api.connection import connect, key_option, url_option
from cli.client import pages
from gateway.settings import Settings


@click.command()
@click.option("-n", "most", type=click.IntRange(min=0), default=50, show_default=True, help="The newest; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="As the API gives it, one change a line.")
@url_option
@key_option
@click.pass_obj
def audit(settings: Settings, most: int, as_json: bool, url: str | None, key: str | None) -> None:
    """Show who has changed keys, models and deployments, the newest last."""
    with connect(settings, url, key) as client:
        entries = list(islice(pages(client, "/audit", "entries"), most or None))
    for entry in reversed(entries):
        if as_json:
            click.echo(json.dumps(entry, ensure_ascii=False))
            continue
        when = f"{datetime.fromisoformat(entry['at']).astimezone():%Y-%m-%d %H:%M:%S}"
        who = f"{entry['key_name']} {entry['key_id']}".strip()
        what = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in entry["details"].items())
        click.echo(f"{when}  {entry['face']:4}  {who:32}  {entry['action']:17}  {entry['target']}  {what}".rstrip())

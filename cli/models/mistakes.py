"""`headrace check`: the catalog without a gateway."""

from __future__ import annotations

import sys

import click

from cli.output import json_option, show_json
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from gateway.store.connection import connect


@click.command()
@json_option
@click.pass_obj
def check(settings: Settings, as_json: bool) -> None:
    """Say what is wrong in headrace.toml and in the catalog. Exit status 1: something is."""
    client = connect(settings, timeout_s=2.0)
    catalog = load_catalog(settings, client)
    mistakes, models, providers = list(map(str, catalog.problems)), len(list(catalog)), len(catalog.providers)
    if as_json:
        show_json({"models": models, "providers": providers, "mistakes": mistakes})
    else:
        click.echo("\n".join([*mistakes, f"{models} models, {providers} providers, {len(mistakes)} mistakes"]))
    sys.exit(bool(mistakes))

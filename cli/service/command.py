"""`headrace files`: what an installation has for its machine and its users."""

from __future__ import annotations

import click

from gateway.directories import shipped


@click.command()
def files() -> None:
    """Say which folder has what others copy: proto/model.proto for gRPC clients, the Procfile."""
    click.echo(shipped())

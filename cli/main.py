"""The `headrace` command."""

from __future__ import annotations

from dataclasses import replace

import click
import httpx

from cli.api.connection import unreachable
from cli.lazy import LazyGroup
from gateway.errors import HeadraceError
from gateway.process.start import begin
from gateway.settings import Settings

#: Where each command is.
COMMANDS = {
    "accept-empty-redis": "cli.service.installation:accept_empty_redis",
    "add": "cli.models.catalog",
    "audit": "cli.api.audit",
    "backup": "cli.backup.command",
    "cert": "cli.service.installation",
    "chat": "cli.models.chat",
    "check": "cli.models.mistakes:check",
    "deploy": "cli.deployments",
    "doctor": "cli.doctor.command",
    "down": "cli.service.installation",
    "drain": "cli.cluster.nodes",
    "engine": "cli.models.engines",
    "files": "cli.service.command",
    "jobs": "cli.api.jobs",
    "join": "cli.cluster.join",
    "key": "cli.api.keys",
    "logs": "cli.logs",
    "models": "cli.deployments",
    "nodes": "cli.cluster.nodes",
    "pull": "cli.models.catalog",
    "remove": "cli.models.catalog",
    "restore": "cli.backup.command",
    "run": "cli.models.run",
    "service": "cli.service.command",
    "set": "cli.models.catalog:set_fields",
    "show": "cli.models.catalog",
    "status": "cli.status",
    "token": "cli.cluster.tokens",
    "top": "cli.top.command",
    "undrain": "cli.cluster.nodes",
    "unload": "cli.deployments",
    "up": "cli.service.installation:up_command",
    "usage": "cli.api.keys",
    "worker": "cli.cluster.worker",
}


class Commands(LazyGroup):
    """A click group that prints our errors in one line."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An error of ours is one line on stderr and exit status 1."""
        try:
            return super().invoke(ctx)
        except HeadraceError as error:
            raise click.ClickException(error.message) from error
        except httpx.TransportError as error:
            raise click.ClickException(unreachable(error)) from error


@click.group(cls=Commands, table=COMMANDS)
@click.version_option(package_name="headrace")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Headrace: the model gateway that loses nothing."""
    ctx.obj = Settings.load(load_on_demand=True)
    begin(replace(ctx.obj, log_level="warning", log_format="text"))


if __name__ == "__main__":
    main()

"""`headrace worker`: a device of this machine, beside those that its own `headrace up` has."""

from __future__ import annotations

import os
import sys

import click

from cli.preflight import check_worker_redis
from gateway.process.environment import without_admin_key
from gateway.process.start import module_command
from gateway.settings import Settings


@click.command()
@click.option("--node", help="Name of this machine in target_nodes; else the host's.")
@click.option("--device", help="cpu0, cuda0, cuda1, ...; else that of the settings.")
@click.pass_obj
def worker(settings: Settings, node: str | None, device: str | None) -> None:
    """Join a device of this machine to the gateway whose Redis HEADRACE_REDIS_URL names. Runs until Ctrl-C."""
    check_worker_redis(settings)
    environ = without_admin_key({**os.environ, **settings.environ()})
    environ |= {f"HEADRACE_{name}": value for name, value in (("NODE", node), ("DEVICE", device)) if value}
    os.execve(sys.executable, module_command("workers.agent"), environ)

"""Runs `headrace up` in the background."""

from __future__ import annotations

import os
import subprocess
import time

import click

from cli.output import say, shown_secret
from cli.up import SECRETS
from gateway.process.start import module_command, private_folder
from gateway.settings import Settings


def up_detached(settings: Settings, *options: str) -> None:
    """Run `headrace up` in a session of its own, and show its output until everything is up.

    Its output goes to a file, so it contains no secrets; they are shown here. Raises: ClickException.
    """
    folder = settings.data_dir.absolute()
    log, ready = folder / "logs" / "up.log", folder / "run" / "ready"
    private_folder(log.parent)
    ready.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            module_command("cli.main", "up", *options),
            env={**os.environ, "HEADRACE_DEMO_MODEL": settings.demo_model},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with log.open() as stream:
        while process.poll() is None and not ready.exists():
            click.echo(stream.read(), nl=False)
            time.sleep(0.1)
        click.echo(stream.read(), nl=False)
    if process.returncode is not None:
        raise click.ClickException("it did not start")
    for name, what in SECRETS.items():
        click.echo(f"  {what:9} {shown_secret(settings, name)}")
    say(f"up in the background, process {process.pid}; 'headrace down' ends it")

"""Runs `headrace up`, or the workers of a machine that has joined, in the background."""

from __future__ import annotations

import os
import subprocess
import time

import click

from cli.output import say, shown_secret
from cli.up import LOOK_S, SECRETS, ready_path
from gateway.errors import Unavailable
from gateway.process.start import module_command, private_folder
from gateway.settings import Settings


def up_detached(settings: Settings, *options: str) -> None:
    """Run `headrace up` in the background, and show the secrets that its output must not have. Raises: Unavailable."""
    pid = detached(settings, module_command("cli.main", "up", *options), HEADRACE_DEMO_MODEL=settings.demo_model)
    for name, what in SECRETS.items():
        click.echo(f"  {what:9} {shown_secret(settings, name)}")
    say(f"up in the background, process {pid}; 'headrace down' ends it")


def detached(settings: Settings, command: list[str], **environ: str) -> int:
    """Run a command in a session of its own, and show its output until it says that all is up. Returns its process.

    The output goes to a file, so it contains no secrets. Raises: Unavailable if it ends before.
    """
    log, ready = settings.data_dir.absolute() / "logs" / "up.log", ready_path(settings)
    private_folder(log.parent)
    ready.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with log.open() as stream:
        while process.poll() is None and not ready.exists():
            click.echo(stream.read(), nl=False)
            time.sleep(LOOK_S)
        click.echo(stream.read(), nl=False)
    if process.returncode is not None:
        raise Unavailable("it did not start")
    return process.pid

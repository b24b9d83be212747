"""`headrace service install` and `remove`: start Headrace with the machine. `headrace files`: what others copy."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import click

from cli.output import json_option, say, show_json
from cli.service import systemd
from cli.service.systemd import Systemd
from cli.service.unit import NAME, UP, WORKERS, Service, command, path
from cli.up import supervisor_of
from gateway.directories import shipped
from gateway.errors import Conflict, InvalidSetting, Unavailable
from gateway.joined import read_joined
from gateway.settings import Settings

#: How long the user of a service may take to run `headrace --version`.
_VERSION_S = 60

system_option = click.option("--system", is_flag=True, help="A service of the machine, not of this user; needs root.")


@click.group()
def service() -> None:
    """Start Headrace with the machine, by systemd."""


@service.command()
@system_option
@click.option("--user", help="Who runs a service of the machine; else who has called sudo.")
@click.option("--workers", is_flag=True, help="Only the workers of this machine, which has joined another one.")
@click.option("--print", "only_print", is_flag=True, help="Only print the unit file.")
@click.pass_obj
def install(settings: Settings, system: bool, user: str | None, workers: bool, only_print: bool) -> None:
    """Install a service that runs 'headrace up' with the settings of now, and start it. Again: with those of then."""
    one = Service.of(settings, os.environ, _runner(user) if system else "", WORKERS if workers else UP)
    text = one.unit()
    if only_print:
        click.echo(text, nl=False)
        return
    manager = _manager(machine=system)
    running = manager.is_active(NAME)
    _require_startable(one, running=running)
    if not _write(path(machine=system), text) and running:
        say(f"{NAME} runs already with these settings")
        return
    _start(manager)
    if not system:
        _linger()
    say(f"data is in {one.settings.data_dir}, settings in {one.settings.config}, keys of providers in")
    say(f"{one.environment_file} (NAME=value a line); '{manager.logs} {NAME}' shows what it says")


@service.command()
@system_option
def remove(system: bool) -> None:
    """End the service and remove it. Data and settings stay."""
    manager, file = _manager(machine=system), path(machine=system)
    if not file.exists():
        say(f"no service is installed: there is no {file}")
        return
    manager.call("disable", "--now", NAME)
    file.unlink()
    manager.call("daemon-reload")
    say(f"ended {NAME} and removed {file}; data and settings stay")


@click.command()
@json_option
def files(as_json: bool) -> None:
    """Say which folder has what others copy: proto/model.proto for gRPC clients, the Procfile."""
    if as_json:
        show_json({"folder": str(shipped())})
    else:
        click.echo(shipped())


def _write(file: Path, text: str) -> bool:
    """Write the unit, unless it is there. Returns whether it has changed."""
    if file.exists() and file.read_text() == text:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(file)
    say(f"wrote {file}")
    return True


def _start(manager: Systemd) -> None:
    """Raises: Unavailable, with the command that shows why."""
    manager.call("daemon-reload")
    manager.call("enable", NAME)
    try:
        manager.call("restart", NAME)
    except Unavailable as error:
        raise Unavailable(f"The service is installed, but does not start; see '{manager.logs} {NAME}'.") from error
    say(f"{NAME} runs; systemd starts it from now on")


def _linger() -> None:
    try:
        systemd.linger()
        say("it runs without a login")
    except Unavailable as error:
        say(f"it runs only while you are logged in ({error.message}); 'sudo loginctl enable-linger $USER' changes that")


def _runner(user: str | None) -> str:
    """Who runs a service of the machine. Raises: InvalidSetting."""
    name = user or os.environ.get("SUDO_USER", "")
    try:
        pwd.getpwnam(name)
    except KeyError as error:
        known = f"There is no user {name!r}." if name else "Nobody has called sudo."
        raise InvalidSetting(
            f"{known} Say who runs the service: --user NAME "
            "('useradd --system --home-dir /var/lib/headrace headrace' makes a user for it)."
        ) from error
    return name


def _manager(*, machine: bool) -> Systemd:
    """Raises: InvalidSetting if there is none, or this user may not change it."""
    systemd.require()
    if machine and os.geteuid() != 0:
        raise InvalidSetting("A service of the machine needs root: run it with sudo, or without --system.")
    return Systemd(machine=machine)


def _require_startable(one: Service, *, running: bool) -> None:
    """Raises: Conflict if Headrace runs, and not as this service; InvalidSetting."""
    if one.module == WORKERS and not read_joined(one.settings.data_dir):
        raise InvalidSetting("This machine has not joined another one yet: headrace join URL TOKEN --no-start.")
    if not running and (pid := supervisor_of(one.settings.data_dir)):
        raise Conflict(
            f"Headrace runs already in {one.settings.data_dir} (process {pid}). Run 'headrace down', and try again."
        )
    if one.user:
        _require_runs(one.user)


def _require_runs(user: str) -> None:
    """Raises: InvalidSetting if the user can't run this installation, as one in the home folder of another."""
    words = command("cli.main", "--version")
    try:
        done = subprocess.run(words, user=user, cwd="/", capture_output=True, timeout=_VERSION_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        raise InvalidSetting(
            f"{user} can't run {words[0]} with this Headrace. Install it where everybody may read: "
            "python3 -m venv /opt/headrace && /opt/headrace/bin/pip install headrace."
        )

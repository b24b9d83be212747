"""`headrace doctor`: all checks, one line each; exit status 1 if there is a problem."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict

import click

from cli.api.connection import connect as connect_http
from cli.api.connection import key_option, url_option
from cli.doctor import chaos, host, observed, remote, store, work
from cli.doctor.checks import Finding, Installed, Level, problem, run
from cli.output import show_json
from cli.preflight import wait_for_redis
from gateway.cluster.registry import Registry
from gateway.errors import StoreUnavailable
from gateway.jobs.store import JobStore
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from gateway.store.connection import connect

#: How long Redis may take to answer.
REDIS_S = 2.0
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array of findings.")
@click.option("--chaos", "with_chaos", is_flag=True, help="Break a sandbox of its own instead, and say what held.")
@url_option
@key_option
@click.pass_obj
def doctor(settings: Settings, as_json: bool, with_chaos: bool, url: str | None, key: str | None) -> None:
    """Check a live installation, and say what to do; with --url one elsewhere, as far as its API tells.

    Exit status 1: there is a problem.
    """
    findings = []
    if with_chaos:
        found: Iterable[Finding] = chaos.break_sandbox(settings)
    else:
        found = examine_remote(settings, url, key, _begin) if url else examine(settings, _begin)
    for finding in found:
        _clear()
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    sys.exit(any(finding.level is Level.PROBLEM for finding in findings))


def examine(settings: Settings, begin: Callable[[str], object] = lambda _: None) -> Iterable[Finding]:
    """All findings. Without Redis only this machine is checked."""
    client = connect(settings, retries=1)
    installed = Installed(settings, client, JobStore(client), Registry(client), load_catalog(settings, client))
    yield from run((*host.CHECKS, *observed.HERE), installed, begin)
    try:
        wait_for_redis(client, settings.effective_redis_url, timeout_s=REDIS_S)
    except StoreUnavailable as error:
        yield problem(error.message, "The other checks need Redis.")
        return
    yield from run((*store.CHECKS, *work.CHECKS, *observed.CHECKS), installed, begin)


def examine_remote(
    settings: Settings, url: str, key: str | None, begin: Callable[[str], object] = lambda _: None
) -> Iterable[Finding]:
    """All findings about the gateway at a URL. Raises: InvalidSetting, httpx.TransportError if it is not there."""
    with connect_http(settings, url, key) as client:
        client.get("/health/live")
        yield from run(remote.CHECKS, remote.Remote(settings, client), begin)


def _begin(name: str) -> None:
    """A terminal shows which check runs, until it has found something."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{'':8} {name:16} ...", nl=False, err=True)


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level.value:8}", fg=_COLOURS[finding.level])
    click.echo(f"{level} {finding.check:16} {finding.found}")
    if finding.remedy:
        click.echo(f"{'':25} -> {finding.remedy}")

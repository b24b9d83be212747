"""`headrace join`: make this machine one of a gateway's, with the token that its admin gives."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import click

from cli.cluster.exchange import CERTIFICATE, Gateway, keep
from cli.cluster.exchange import join as ask
from cli.cluster.running import PROVIDER, run_workers
from cli.detach import detached
from cli.output import say
from cli.preflight import check_data_dir, check_worker_redis
from cli.up import supervisor_of
from gateway.cluster.nodes import parse_labels
from gateway.errors import InvalidSetting
from gateway.joined import FOLDER, read_joined
from gateway.process.start import module_command
from gateway.settings import Settings
from schemas.cluster.joining import NODE_NAME, TokenParts
from workers.host.devices import describe_device


@click.command()
@click.argument("url", required=False)
@click.argument("token", required=False)
@click.option("--node", help="Name of this machine; else the host's.")
@click.option("--device", help="cpu0, cuda0, cuda1, ...; else that of the settings.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of this machine; again for more.")
@click.option("--provider", is_flag=True, help="Run a worker for remote models, too; their keys must be set here.")
@click.option("--start/--no-start", default=True, help="Start the workers, or leave that to 'headrace worker' or 'up'.")
@click.option("--detach", is_flag=True, help="Return when they are up, and leave them running.")
@click.pass_obj
def join(
    settings: Settings,
    /,
    url: str | None,
    token: str | None,
    node: str | None,
    device: str | None,
    labels: tuple[str, ...],
    provider: bool,
    start: bool,
    detach: bool,
) -> None:
    """Join the gateway at URL with the TOKEN of 'headrace token create', and start this machine's workers.

    Once joined, 'headrace worker' and 'headrace up' work here without more. Without URL and TOKEN what the gateway
    gives is brought up to date.
    """
    _require_no_other_redis()
    check_data_dir(replace(settings, redis_url=settings.redis_url or "elsewhere"))
    gateway, parts = _where(settings, url, token)
    own = _own(settings, node, device, labels)
    answer = ask(settings, gateway, parts, node=own.pop("node"))
    keep(settings, gateway, answer, **own)
    say(f"this machine is node {answer.node} of {gateway.url}")
    settings = replace(Settings.load(), config=settings.config)
    if pid := supervisor_of(settings.data_dir):
        say(f"its workers run already (process {pid}); 'headrace down' and 'headrace join' start them anew")
        return
    if not start:
        check_worker_redis(settings)
        return
    if detach:
        pid = detached(settings, module_command("cli.cluster.running", *([PROVIDER] if provider else [])))
        say(f"up in the background, process {pid}; 'headrace down' ends it")
    else:
        run_workers(settings, provider=provider)


def _require_no_other_redis() -> None:
    """Raises: InvalidSetting if a variable would win over what the gateway gives."""
    for name in ("HEADRACE_REDIS_URL", "HEADRACE_REDIS_URL_FILE"):
        if os.environ.get(name):
            raise InvalidSetting(f"{name} is set here, and would win over what the gateway gives. Unset it.")


def _where(settings: Settings, url: str | None, token: str | None) -> tuple[Gateway, TokenParts | None]:
    """The gateway, and the token for it; None if this machine has joined it before. Raises: InvalidSetting."""
    before = str(read_joined(settings.data_dir).get("gateway", ""))
    if not url and not before:
        raise InvalidSetting("This machine has not joined a gateway yet: headrace join URL TOKEN.")
    gateway = Gateway.parse(url or before)
    if token:
        if (parts := TokenParts.parse(token)) is None:
            raise InvalidSetting("This is no join token: it begins with hrj-, as 'headrace token create' shows it.")
        return gateway, parts
    if gateway.url != before or not (settings.data_dir / FOLDER / CERTIFICATE).exists():
        raise InvalidSetting(f"To join {gateway.url} a token is needed: headrace join URL TOKEN.")
    return gateway, None


def _own(settings: Settings, node: str | None, device: str | None, labels: tuple[str, ...]) -> dict[str, str]:
    """The settings of this machine alone. Raises: InvalidSetting."""
    own = {
        "node": node or settings.node,
        "device": device or settings.device,
        "labels": ",".join(labels) or settings.labels,
    }
    if not re.fullmatch(NODE_NAME, own["node"]):
        raise InvalidSetting(f"--node is {own['node']!r:.100}; it must be 1 to 63 letters, digits, '.', '_' and '-'.")
    describe_device(own["device"])
    parse_labels(own["labels"])
    return own

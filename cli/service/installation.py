"""`headrace up`, `down`, `accept-empty-redis` and `cert`: the installation of this machine."""

from __future__ import annotations

import re
from dataclasses import replace

import click

from cli import leftovers
from cli.detach import up_detached
from cli.output import json_option, say, show_json
from cli.preflight import wait_for_redis
from cli.up import SUPERVISOR, claim_redis, supervisor_of, up
from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap, origins
from gateway.access.certificates import NAMES, authority
from gateway.access.secret_files import bootstrap_key
from gateway.errors import Unavailable
from gateway.settings import Settings
from gateway.store.connection import connect as redis_client

#: How long `down` waits for `headrace up` to end everything, before it does so itself.
DOWN_S = 15.0
#: Rounds of ending leftovers: a process may start another one just before it ends.
DOWN_ROUNDS = 4


@click.command("up")
@click.option("--detach", is_flag=True, help="Return when it is up, and leave it running.")
@click.option(
    "--listen", metavar="HOST[:PORT]", help="Let other machines join here, over TLS; 0.0.0.0: at all addresses."
)
@click.option("--accept-empty-redis", is_flag=True, help="Go on though Redis has lost its data.")
@click.pass_obj
def up_command(settings: Settings, detach: bool, listen: str | None, accept_empty_redis: bool) -> None:
    """Start everything on this machine."""
    if listen:
        settings = replace(settings, listen=listen)
    if detach:
        options = [*(["--accept-empty-redis"] if accept_empty_redis else []), *(["--listen", listen] if listen else [])]
        up_detached(settings, *options)
    else:
        up(settings, accept_empty_redis=accept_empty_redis)


@click.command()
@click.pass_obj
def accept_empty_redis(settings: Settings) -> None:
    """Go on with a Redis that has lost its data: as a new installation, whose first key is the bootstrap key."""
    client = redis_client(settings)
    wait_for_redis(client, settings.effective_redis_url, timeout_s=1)
    claim_redis(client, settings, accept=True)
    if key := bootstrap_key(settings):
        bootstrap(Credentials(client), key, *origins(settings))
    say("accepted; what was deployed is to be deployed anew, and keys are to be made anew")


@click.command()
@json_option
@click.pass_obj
def down(settings: Settings, as_json: bool) -> None:
    """End all that runs in the data folder, also what a killed 'headrace up' has left."""
    folder = settings.data_dir
    pid = supervisor_of(folder)
    if pid:
        leftovers.end(folder, [SUPERVISOR], grace_s=DOWN_S + settings.shutdown_s)
    ended = [SUPERVISOR] if pid else []
    for _ in range(DOWN_ROUNDS):
        left = leftovers.running(folder)
        if not left:
            break
        say(f"ending {', '.join(left)}, which no 'headrace up' looks after", err=as_json)
        leftovers.end(folder, left, grace_s=leftovers.END_S + settings.shutdown_s)
        ended += left
    else:
        raise Unavailable(f"Something starts processes of {folder} again and again. End that first.")
    if as_json:
        show_json({"ended": ended})
    else:
        say("stopped" if ended else f"nothing runs in {folder}")


@click.command()
@click.option("--name", "names", multiple=True, help="A further host name or address of the server.")
@click.option("--client", help="Make a client's certificate of that name instead.")
@json_option
@click.pass_obj
def cert(settings: Settings, names: tuple[str, ...], client: str | None, as_json: bool) -> None:
    """Make a development certificate for gRPC, and the CA that signs it."""
    if client and not re.fullmatch(r"[\w.-]{1,64}", client):
        raise click.BadParameter("use letters, digits, '.', '_' and '-'", param_hint="--client")
    with authority(settings) as ca:
        path = ca.issue(f"client-{client}", client) if client else ca.issue("server", NAMES[0], names=NAMES + names)
    ca_path, key_path = path.parent / "ca.pem", path.with_suffix(".key")
    if as_json:
        show_json({"ca": str(ca_path), "certificate": str(path), "key": str(key_path)})
    else:
        say(f"CA {ca_path}, certificate {path}, key {key_path}")

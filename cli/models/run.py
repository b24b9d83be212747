"""`headrace run`: from a name to an answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.api.numbers import Finite
from cli.deployments import DEPLOYED, follow_deployment, start
from cli.detach import up_detached
from cli.models.catalog import add_by_name, as_option, node_option, set_option
from cli.models.chat import say, talk
from gateway.models.names import is_path
from gateway.settings import Settings


@click.command()
@click.argument("name")
@click.argument("prompt", nargs=-1)
@as_option
@node_option
@set_option
@click.option("--max-tokens", type=int, default=512, show_default=True)
@click.option("--temperature", type=Finite(), default=0.7, show_default=True)
@url_option
@key_option
@click.pass_obj
def run(
    settings: Settings,
    /,
    name: str,
    prompt: tuple[str, ...],
    model_id: str | None,
    node: str | None,
    table: tuple[str, ...],
    url: str | None,
    key: str | None,
    **options: Any,
) -> None:
    """Serve a model and talk to it: NAME is one of the hub (OWNER/NAME), a path, an installed package, or an id.

    With a PROMPT, or one on the standard input, it answers that and ends; the model stays served. Without a gateway
    on this machine one is started in the background.
    """
    if not url and not _is_up(settings):
        up_detached(replace(settings, demo_model=""))
    with connect(settings, url, key) as client:
        found = None if is_path(name) or model_id or table else _known(client, name)
        if found is None:
            added = add_by_name(client, settings, name, model_id=model_id, node=node, table=table)
            found = _known(client, added["model_id"])
        assert found is not None
        if found["provider"] == "local" and found["status"] not in DEPLOYED:
            body = {"model_type": found["id"], "target_nodes": [node] if node else []}
            if not follow_deployment(client, start(client, body)["deployment_id"]):
                raise click.ClickException(f"{found['id']} was not deployed")
        _ask(client, found, " ".join(prompt), options)


def _is_up(settings: Settings) -> bool:
    """Whether something answers where this machine's gateway would. What does is known by the first real request."""
    try:
        with connect(settings, None, None) as client:
            client.get("/health/live")
    except httpx.TransportError:
        return False
    return True


def _known(client: httpx.Client, name: str) -> dict[str, Any] | None:
    """The model that was added by that name, or has it as its id; None if there is none. Raises: ServerError."""
    listed = client.get("/models", params={"requested": name})
    api.raise_for_error(listed)
    ids = [model["id"] for model in listed.json()["data"]["models"]]
    response = client.get(f"/models/{ids[0] if ids else name}")
    if response.status_code == 404:
        return None
    api.raise_for_error(response)
    found: dict[str, Any] = response.json()["data"]
    return found


def _ask(client: httpx.Client, model: Mapping[str, Any], prompt: str, options: Mapping[str, Any]) -> None:
    """One answer, or a conversation; a model that writes no text is only served."""
    if not prompt and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if "chat" in model["capabilities"] and not prompt and sys.stdin.isatty():
        talk(client, model["id"], **options)
    elif "chat" in model["capabilities"] and prompt:
        say(api.chat(client, model["id"], [{"role": "user", "content": prompt}], **options))
    elif "completion" in model["capabilities"] and prompt:
        say(api.complete(client, model["id"], prompt, **options))
    else:
        click.echo(f"{model['id']} is served: {', '.join(model['capabilities'])}")

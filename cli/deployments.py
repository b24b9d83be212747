"""`headrace deploy`, `models`, `unload` and `worker`: models on devices, from a terminal, over the HTTP API."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.api.numbers import Finite
from cli.api.progress import follow
from cli.lazy import LazyGroup
from cli.output import json_option, show_json
from gateway.models.engines import QUANTIZATIONS
from gateway.settings import Settings

#: Statuses of a model that has a replica, or will have one without a deployment.
DEPLOYED = ("active", "loading", "asleep")


@click.command()
@click.argument("model")
@click.option("--quantization", type=click.Choice(QUANTIZATIONS), help="Weights as they are held in memory.")
@click.option("--node", "nodes", multiple=True, help="A node, or node.device; again for more replicas.")
@click.option("--replicas", type=int, help="How many replicas.")
@click.option("--max-batch-size", type=int, help="Sequences that run at once.")
@click.option("--context-length", type=int, help="Tokens of prompt and answer.")
@click.option("--tensor-parallel-size", type=int, help="Processes that share the weights.")
@click.option("--cpu-offload", is_flag=True, default=None, help="Keep weights in the host's memory.")
@click.option("--idle-unload", "idle_unload_s", type=Finite(), help="Seconds without a request until it is unloaded.")
@click.option("--dry-run", is_flag=True, help="Only say what it would take.")
@click.option("--once", is_flag=True, help="Only if it is not deployed.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@url_option
@key_option
@click.pass_obj
def deploy(
    settings: Settings,
    /,
    model: str,
    quantization: str | None,
    nodes: tuple[str, ...],
    replicas: int | None,
    dry_run: bool,
    once: bool,
    detach: bool,
    as_json: bool,
    url: str | None,
    key: str | None,
    **config: Any,
) -> None:
    """Bring a model onto devices, and show how far it is. Ctrl-C cancels the deployment."""
    body: dict[str, Any] = {
        "model_type": model,
        "quantization": quantization,
        "target_nodes": list(nodes),
        "replicas": replicas,
        "deployment_config": {name: value for name, value in config.items() if value is not None},
        "dry_run": dry_run,
    }
    with connect(settings, url, key) as client:
        if once and (status := _status(client, model)) in DEPLOYED:
            if as_json:
                show_json({"model_id": model, "status": status})
            else:
                click.echo(f"{model}: deployed already")
            return
        data = start(client, body, for_programs=as_json or dry_run)
        if dry_run or (as_json and detach):
            show_json(data)
            return
        if as_json:
            ended = follow(client, f"/models/local/deployments/{data['deployment_id']}", for_programs=True)
            show_json(ended)
            sys.exit(ended["status"] != "completed")
        click.echo(f"{data['deployment_id']}: {model}, about {data['estimated_time']}")
        if not detach:
            sys.exit(0 if follow_deployment(client, data["deployment_id"]) else 1)


@click.group(cls=LazyGroup, table={"prune": "cli.models.prune"}, invoke_without_command=True)
@json_option
@url_option
@key_option
@click.pass_context
def models(ctx: click.Context, as_json: bool, url: str | None, key: str | None) -> None:
    """List all models, and the replicas of those that are on devices; remove downloads that are not used."""
    if ctx.invoked_subcommand:
        return
    with connect(ctx.obj, url, key) as client:
        every, local = (client.get(path) for path in ("/models", "/models/local"))
        for response in (every, local):
            api.raise_for_error(response)
    resident = {entry["id"]: entry for entry in local.json()["data"]["models"]}
    if as_json:
        show_json(list(resident.values()))
        return
    for model in every.json()["data"]["models"]:
        click.echo(f"{model['id']:24} {model['status']:15} {model['provider']:10} {', '.join(model['capabilities'])}")
        for replica in resident.get(model["id"], {"replicas": []})["replicas"]:
            click.echo(
                f"  {replica['node_id']}.{replica['device']}: {replica['health']}, {replica['memory_usage']}, "
                f"{replica['quantization']}, {replica['tokens_per_second']} tokens/s, {replica['sequences']} running"
            )


@click.command()
@click.argument("model")
@click.option("--wait/--no-wait", default=True, help="Wait until its requests have ended and it is gone.")
@json_option
@url_option
@key_option
@click.pass_obj
def unload(settings: Settings, model: str, wait: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Take a model off all devices. Its running requests end first."""
    with connect(settings, url, key) as client:
        response = client.delete(f"/models/local/{model}")
        api.raise_for_error(response)
        data = response.json()["data"]
        if not as_json:
            click.echo(f"{model}: unloading on {', '.join(data['nodes']) or 'no node'}")
        while wait and _is_on_a_device(client, model):
            time.sleep(0.3)
    if as_json:
        show_json({**data, "status": "gone" if wait else data["status"]})
    elif wait:
        click.echo(f"{model}: gone")


def start(client: httpx.Client, body: Mapping[str, Any], *, for_programs: bool = False) -> dict[str, Any]:
    """Begin a deployment, and say what there is to know. Raises: ServerError."""
    response = client.post("/models/local/deploy", json=body)
    api.raise_for_error(response)
    data: dict[str, Any] = response.json()["data"]
    for warning in data.get("warnings", ()):
        click.echo(f"  note: {warning}", err=for_programs)
    return data


def follow_deployment(client: httpx.Client, deployment_id: str) -> bool:
    """Show a deployment to its end. Returns whether it succeeded. Ctrl-C cancels it."""
    data = follow(client, f"/models/local/deployments/{deployment_id}")
    click.echo(f"{deployment_id}: {data['status']}")
    if data["error"]:
        click.echo(f"  {data['error']['reason']}: {data['error']['message']}\n  {data['error'].get('remedy', '')}")
    return bool(data["status"] == "completed")


def _status(client: httpx.Client, model: str) -> str:
    response = client.get(f"/models/{model}")
    api.raise_for_error(response)
    return str(response.json()["data"]["status"])


def _is_on_a_device(client: httpx.Client, model: str) -> bool:
    response = client.get("/models/local")
    api.raise_for_error(response)
    return model in [entry["id"] for entry in response.json()["data"]["models"]]

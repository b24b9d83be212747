"""`headrace pull`, `add`, `show`, `set` and `remove`: the models of the catalog, from a terminal."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.api.progress import follow
from cli.output import json_option, show_json
from gateway.models.names import is_path
from gateway.settings import Settings

as_option = click.option("--as", "model_id", help="Its id here; else one is made of the name.")
node_option = click.option("--node", help="The node, or node.device, that looks it up and gets its files.")
set_option = click.option(
    "--set", "table", multiple=True, metavar="FIELD=VALUE", help="A field as in headrace.toml; it counts more."
)


@click.command()
@click.argument("name")
@as_option
@node_option
@set_option
@json_option
@url_option
@key_option
@click.pass_obj
def pull(settings: Settings, /, name: str, as_json: bool, url: str | None, key: str | None, **more: Any) -> None:
    """Add a model by its name, and get its files. Once more: as the branch is now."""
    with connect(settings, url, key) as client:
        added = add_by_name(client, settings, name, for_programs=as_json, **more)
    if as_json:
        show_json(added)


@click.command()
@click.argument("name")
@as_option
@node_option
@set_option
@click.option("--dry-run", is_flag=True, help="Only say what it is, and what it would take.")
@json_option
@url_option
@key_option
@click.pass_obj
def add(
    settings: Settings, /, name: str, dry_run: bool, as_json: bool, url: str | None, key: str | None, **more: Any
) -> None:
    """Add a model by its name. Its files come with its first deployment."""
    with connect(settings, url, key) as client:
        added = add_by_name(client, settings, name, for_programs=as_json, pull=False, dry_run=dry_run, **more)
    if as_json:
        show_json(added)


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As it is in any case.")
@url_option
@key_option
@click.pass_obj
def show(settings: Settings, model: str, as_json: bool, url: str | None, key: str | None) -> None:
    """What is known and was decided about a model, as JSON."""
    with connect(settings, url, key) as client:
        response = client.get(f"/models/{model}")
        api.raise_for_error(response)
    show_json(response.json()["data"])


@click.command("set")
@click.argument("model")
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@json_option
@url_option
@key_option
@click.pass_obj
def set_fields(
    settings: Settings, model: str, fields: tuple[str, ...], as_json: bool, url: str | None, key: str | None
) -> None:
    """Change fields of a model that was added, named as in headrace.toml. FIELD= takes one out."""
    with connect(settings, url, key) as client:
        response = client.patch(f"/models/{model}", json=_table(fields))
        api.raise_for_error(response)
    if as_json:
        show_json(response.json()["data"])
    else:
        click.echo(f"{model}: changed; deploy it again for what is decided when it is loaded")


@click.command()
@click.argument("model")
@click.option("--files", is_flag=True, help="Remove downloaded files, too.")
@json_option
@url_option
@key_option
@click.pass_obj
def remove(settings: Settings, model: str, files: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Remove a model that was added, and unload it."""
    with connect(settings, url, key) as client:
        response = client.delete(f"/models/{model}", params={"files": files})
        api.raise_for_error(response)
        data = response.json()["data"]
    if as_json:
        show_json(data)
        return
    still = f", unloading on {', '.join(data['unloading'])}" if data["unloading"] else ""
    click.echo(f"{model}: removed{still}; downloaded files: {data['files']}")


def add_by_name(
    client: httpx.Client,
    settings: Settings,
    name: str,
    *,
    for_programs: bool = False,
    model_id: str | None = None,
    node: str | None = None,
    table: tuple[str, ...] = (),
    **more: bool,
) -> dict[str, Any]:
    """Add a model by its name, and show how far it is. Ctrl-C cancels. Raises: ServerError, with the reason."""
    if is_path(name):
        name = str(Path(name.removeprefix("folder:")).expanduser().absolute())
    body = {"source": name, "id": model_id, "node": node, "model": _table(table), **more}
    response = client.post("/models", json={field: value for field, value in body.items() if value is not None})
    api.raise_for_error(response)
    data = follow(client, f"/jobs/{response.json()['data']['job_id']}", for_programs=for_programs)
    if data["status"] != "completed":
        error = data["error"] or {"message": f"it was {data['status']}"}
        remedy = f" {error['remedy']}" if error.get("remedy") else ""
        raise click.ClickException(f"{name}: {error['message']}{remedy}")
    result: dict[str, Any] = data["result"]
    return {**result, "model_id": result["model_id"] or name}


def _table(fields: tuple[str, ...]) -> dict[str, Any]:
    """Fields and their values, which are written as in TOML; what is no TOML is text. Raises: BadParameter."""
    found: dict[str, Any] = {}
    for one in fields:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{one!r} is not FIELD=VALUE")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"] if value else None
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found

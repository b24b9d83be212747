"""`headrace engine`: the environments of engines whose packages do not agree with Headrace's, on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import click

from cli.output import json_option, say, show_json
from gateway.errors import InvalidSetting
from gateway.models.engines import SPECS, TOOLS, EngineSpec, how_to_install
from gateway.settings import Settings
from workers.host.devices import describe_device, installed_engines
from workers.host.venvs import RECIPES, Environment, recipe

name_argument = click.argument("name", type=click.Choice(sorted(RECIPES)))


@click.group()
def engine() -> None:
    """Engines of this machine, and those that have an environment of their own."""


@engine.command()
@name_argument
@click.option("--for", "kind", type=click.Choice(["cpu", "cuda"]), help="Kind of device; else cuda where there is one.")
@click.option("--again", is_flag=True, help="Also if it is there: it is made anew.")
@json_option
@click.pass_obj
def install(settings: Settings, name: str, kind: str | None, again: bool, as_json: bool) -> None:
    """Install an engine, or a tool of one, with its packages, below the data folder. Agents that run find it."""
    kind, place = kind or _kind(name), Environment.of(name, settings.data_dir)
    wanted, found = recipe(name, kind), place.installed()
    if found and not again and (found.package, found.version) == (wanted.package, wanted.version):
        if as_json:
            show_json(asdict(found))
        else:
            say(f"{name} is there already: {found.package} {found.version} for {found.kind}")
        return
    started = time.monotonic()
    made = place.install(kind, lambda what: say(f"{name}: {what}", err=as_json))
    if as_json:
        show_json(asdict(made))
    else:
        say(f"{name}: {made.package} {made.version} for {made.kind}, after {time.monotonic() - started:.0f} s")


@engine.command("list")
@json_option
@click.pass_obj
def list_engines(settings: Settings, as_json: bool) -> None:
    """List all engines and their tools, and say what is missing."""
    here = installed_engines(settings.data_dir)
    found = [_described(spec, settings, is_here=name in here) for name, spec in SPECS.items() if not spec.weightless]
    found += [_tool(name, settings) for name in sorted(TOOLS)]
    if as_json:
        show_json(found)
        return
    for one in found:
        what = f"{one['package']} {one['version']} for {one['kind']}" if one.get("package") else "with Headrace"
        click.echo(f"{one['name']:16} {what if one['installed'] else 'not installed: ' + one['install']}")


@engine.command()
@name_argument
@json_option
@click.pass_obj
def remove(settings: Settings, name: str, as_json: bool) -> None:
    """Remove an engine's environment. Replicas that run on it should be unloaded before."""
    place = Environment.of(name, settings.data_dir)
    if not place.folder.exists():
        raise InvalidSetting(f"{name} is not installed in {settings.data_dir}.")
    place.remove()
    if as_json:
        show_json({"removed": name})
    else:
        say(f"{name}: removed")


def _kind(name: str) -> str:
    """Of the devices of this machine, if there is one for it."""
    try:
        describe_device("cuda0")
    except InvalidSetting:
        return "cpu"
    return "cuda" if "cuda" in RECIPES[name] else "cpu"


def _described(spec: EngineSpec, settings: Settings, *, is_here: bool) -> dict[str, Any]:
    own = Environment.of(spec.name, settings.data_dir).installed() if spec.is_apart else None
    return {
        "name": spec.name,
        "installed": is_here,
        "install": how_to_install(spec.name),
        "devices": list(spec.devices),
        "formats": list(spec.formats),
        **(asdict(own) if own else {}),
    }


def _tool(name: str, settings: Settings) -> dict[str, Any]:
    own = Environment.of(name, settings.data_dir).installed()
    return {
        "name": name,
        "installed": own is not None,
        "install": how_to_install(name),
        "devices": list(RECIPES[name]),
        "formats": sorted({format for spec in SPECS.values() for format, tool in spec.exports.items() if tool == name}),
        **(asdict(own) if own else {}),
    }

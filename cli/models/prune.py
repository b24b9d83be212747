"""`headrace models prune`: remove this machine's downloads of models that nothing uses any more."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress

import click

from cli.api.numbers import seconds_of
from cli.api.progress import size_text
from cli.output import counted, json_option, show_json
from cli.preflight import wait_for_redis
from gateway.cluster.desired import Desired
from gateway.cluster.registry import Registry
from gateway.errors import Conflict
from gateway.models.catalog import Catalog, load_catalog
from gateway.settings import Settings
from gateway.store.connection import connect
from schemas.sources import HubRef, parse_source
from workers.sources.unused import Unused, unused


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--older-than", default="1h", show_default=True, help="Keep what was written since: 45m, 12h, 30d.")
@json_option
@click.pass_obj
def prune(settings: Settings, dry_run: bool, yes: bool, older_than: str, as_json: bool) -> None:
    """Remove this machine's downloads that no model of the catalog names and no process has open.

    Nothing is looked at outside 'models' in the data folder.
    """
    older_than_s = seconds_of(older_than)
    if older_than_s is None:
        raise click.BadParameter("give minutes, hours or days: 45m, 12h, 30d", param_hint="--older-than")
    if not (dry_run or yes) and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("There is nobody to ask: give --yes, or --dry-run to see what would be removed.")
    found = _unused(settings, older_than_s)
    if not as_json:
        for one in found:
            click.echo(f"{size_text(one.size_bytes):>10}  {one.name}")
    wanted = [] if dry_run else found
    if wanted and not yes:
        agreed = click.confirm(f"Remove {_total(found)}?")
        wanted = [one for one in _unused(settings, older_than_s) if one in found] if agreed else []  # it took a while
    removed = [one for one in counted(wanted, "downloads") if one.remove()]
    _report(found, removed, dry_run=dry_run, as_json=as_json)


def _unused(settings: Settings, older_than_s: float) -> list[Unused]:
    """As of now. Raises: Conflict where it can't be told what is in use."""
    with connect(settings, retries=1) as client:
        wait_for_redis(client, settings.effective_redis_url, timeout_s=1)
        catalog = load_catalog(settings, client)
        specs, replicas = Desired(client).all(), Registry(client).replicas()
        _require_known(catalog, {*(one.model for one in specs), *(one.model for one in replicas)})
    return unused(settings.data_dir / "models", _named(catalog), older_than_s=older_than_s)


def _named(catalog: Catalog) -> list[HubRef]:
    """What any table names, also of a model that is disabled."""
    found = []
    for source in catalog.sources.named():
        with suppress(ValueError):  # of a disabled model, which nobody has checked
            found.append(parse_source(source))
    return [ref for ref in found if isinstance(ref, HubRef)]


def _require_known(catalog: Catalog, served: Iterable[str]) -> None:
    """Raises: Conflict where it can't be told what is in use."""
    if catalog.problems:
        raise Conflict("The catalog has mistakes, so it does not say what is in use: see 'headrace check'.")
    if gone := sorted(set(served) - {model.id for model in catalog}):
        raise Conflict(f"{', '.join(gone)} is served and not in the catalog. Unload it first: headrace unload MODEL.")


def _total(found: Iterable[Unused]) -> str:
    sizes = [one.size_bytes for one in found]
    return f"{len(sizes)} downloads of {size_text(sum(sizes))}"


def _report(found: list[Unused], removed: list[Unused], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        names = {"would_remove" if dry_run else "removed": found if dry_run else removed}
        listed = {
            key: [{"name": one.name, "folder": str(one.folder), "size_bytes": one.size_bytes} for one in ones]
            for key, ones in names.items()
        }
        show_json({**listed, "size_bytes": sum(one.size_bytes for ones in names.values() for one in ones)})
    elif not found:
        click.echo("nothing to remove")
    else:
        click.echo(f"would remove {_total(found)}" if dry_run else f"removed {_total(removed)}")

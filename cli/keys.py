"""`headrace key` and `headrace usage`: use Redis directly, so they need no admin key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from marshmallow import Schema, ValidationError

from cli.output import say
from cli.preflight import wait_for_redis
from gateway.access.api_keys import Credentials, KeyRecord
from gateway.errors import InvalidRequest
from gateway.jobs.control import cancel_all
from gateway.jobs.ledger import total
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.connection import connect
from schemas.base.fields import leaves
from schemas.base.times import iso_seconds
from schemas.keys import SCOPES, KeyChangeSchema, KeyRequestSchema
from schemas.usage import UsageQuerySchema

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _limits(function: F) -> F:
    """The options that `create` and `update` share."""
    for option in (
        click.option("--expires", help="When: a time in ISO 8601, or in 45m, 12h, 90d; 'never' takes it away."),
        click.option("--weight", type=int, help="How much it is served, next to other keys that wait; 1 to 100."),
        click.option("--tokens-per-minute", type=int, help="Prompts and answers together; 0 = no limit."),
        click.option("--requests-per-minute", type=int, help="0 = no limit."),
        click.option(
            "--model", "models", multiple=True, help="A model that it may ask; may be repeated. Default: all."
        ),
    ):
        function = option(function)
    return function


@click.group()
def key() -> None:
    """Make, list, change and revoke API keys."""


@key.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("inference",), show_default=True)
@_limits
@click.pass_obj
def create(settings: Settings, /, name: str, scopes: tuple[str, ...], **limits: Any) -> None:
    """Make a key. It is shown once, and kept only as a hash."""
    body = load(KeyRequestSchema(), {"name": name, "scopes": list(scopes), **_given(limits)})
    _, secret = _credentials(settings).create(**asdict(body))
    click.echo(secret)


@key.command("list")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """Show all keys, without their secrets."""
    for record in _credentials(settings).list():
        made = f"{datetime.fromtimestamp(record.created_at):%Y-%m-%d %H:%M}"
        scopes = ",".join(record.scopes)
        click.echo(f"{record.id}  {record.prefix + '…':8}  {made}  {record.status:8}  {scopes:20}  {record.name}")


@key.command("show")
@click.argument("key_id")
@click.pass_obj
def show(settings: Settings, key_id: str) -> None:
    """Show one key, named by its id or prefix, with its limits."""
    _print(_credentials(settings).match(key_id))


@key.command("update")
@click.argument("key_id")
@click.option("--name")
@click.option("--all-models", is_flag=True, help="Let it ask all models.")
@_limits
@click.pass_obj
def update(settings: Settings, /, key_id: str, name: str | None, all_models: bool, **limits: Any) -> None:
    """Change a key. Options that are not given stay as they are."""
    wanted = {**_given(limits), **({"models": []} if all_models else {}), **({"name": name} if name else {})}
    if not wanted:
        raise click.UsageError("Say what to change, for example --requests-per-minute 60.")
    credentials = _credentials(settings)
    change = load(KeyChangeSchema(), wanted)
    _print(credentials.update(credentials.match(key_id).id, change.fields))


@key.command("revoke")
@click.argument("key_id")
@click.pass_obj
def revoke(settings: Settings, key_id: str) -> None:
    """Revoke a key at once, and cancel its jobs."""
    credentials = _credentials(settings)
    record = credentials.revoke(credentials.match(key_id).id)
    cancelled = cancel_all(JobStore(credentials.redis), record.id)
    say(f"revoked {record.name} ({record.id}); {cancelled} of its jobs were cancelled")


@click.command("usage")
@click.option("--key", "key_id", help="Id or prefix of a key; all keys if it is not given.")
@click.option("--model", help="Id of a model.")
@click.option("--from", "start", help="A date or time in ISO 8601; 30 days ago if it is not given.")
@click.option("--to", "end", help="A date or time in ISO 8601; now if it is not given.")
@click.pass_obj
def usage(settings: Settings, key_id: str | None, model: str | None, start: str | None, end: str | None) -> None:
    """Show tokens and cost by key and model."""
    given = {name: value for name, value in {"model": model, "from": start, "to": end}.items() if value}
    query = load(UsageQuerySchema(), given)
    credentials = _credentials(settings)
    records = [credentials.match(key_id)] if key_id else credentials.list()
    names = {record.id: record.name for record in records}
    rows = JobStore(credentials.redis).ledger.report(list(names), start=query.start, end=query.end, model=query.model)
    for row in rows:
        _line(names[row.key_id], row.model, row.counts(), {row.currency: row.cost})
    whole = total(rows)
    _line("total", "", whole, whole["cost"])


def load(schema: Schema, values: Mapping[str, Any]) -> Any:
    """Load options with a schema. Raises: InvalidRequest with its text."""
    try:
        return schema.load(values)
    except ValidationError as error:
        messages = error.messages if isinstance(error.messages, dict) else {"options": error.messages}
        raise InvalidRequest.of({".".join(map(str, path)): texts for path, texts in leaves(messages)}) from error


def _given(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Options in the form of the schemas: 0 and 'never' become null."""
    found: dict[str, Any] = {}
    if limits["models"]:
        found["models"] = list(limits["models"])
    for name in ("requests_per_minute", "tokens_per_minute"):
        if limits[name] is not None:
            found[name] = limits[name] or None
    if limits["weight"] is not None:
        found["weight"] = limits["weight"]
    if limits["expires"]:
        found["expires_at"] = _when(limits["expires"])
    return found


def _when(text: str) -> str | None:
    if text == "never":
        return None
    relative = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if not relative:
        return text
    return (datetime.now(UTC) + timedelta(**{_UNITS[relative[2]]: int(relative[1])})).isoformat()


def _print(record: KeyRecord) -> None:
    for name, value in {**asdict(record), "status": record.status}.items():
        if name.endswith("_at"):
            value = iso_seconds(value) if value else "never"
        elif name.endswith("_per_minute"):
            value = value or "no limit"
        elif isinstance(value, tuple):
            value = ", ".join(value) or "all"
        click.echo(f"  {name:20} {value}")


def _line(name: str, model: str, counts: Mapping[str, Any], costs: Mapping[str, float]) -> None:
    cost = ", ".join(f"{cost:.6f} {currency}" for currency, cost in costs.items())
    click.echo(
        f"{name:20}  {model:24}  {counts['jobs']:>8} jobs  {counts['prompt_tokens']:>10} + "
        f"{counts['completion_tokens']} tokens  {cost}"
    )


def _credentials(settings: Settings) -> Credentials:
    client = connect(settings, retries=1)
    wait_for_redis(client, settings.effective_redis_url, timeout_s=1)
    return Credentials(client)

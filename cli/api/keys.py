"""`headrace key` and `headrace usage`: over the HTTP API of `--url`, else in this machine's Redis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from marshmallow import Schema, ValidationError

from cli.api.connection import key_option, url_option
from cli.api.key_stores import Keys, keys_of
from cli.api.numbers import seconds_of
from cli.output import json_option, say, show_json
from gateway.errors import InvalidRequest
from schemas.base.fields import leaves
from schemas.keys import MAX_GRACE_S, SCOPES, KeyChangeSchema, KeyRequestSchema
from schemas.usage import UsageQuerySchema

F = TypeVar("F", bound=Callable[..., Any])


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


def _over_keys(function: Callable[..., None]) -> Callable[..., None]:
    """A command that gets the `Keys` that `--url` and `--key` say."""

    @url_option
    @key_option
    @click.pass_context
    @functools.wraps(function)
    def command(context: click.Context, /, url: str | None, key: str | None, **options: Any) -> None:
        if not url and _typed(context, "key"):
            raise click.UsageError("--key goes with --url; without it this machine's Redis is used, without a key.")
        with closing(keys_of(context.obj, url, key)) as keys:
            function(keys, **options)

    return command


def _typed(context: click.Context, name: str) -> bool:
    """Whether an option was given on the command line, not by a variable."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


@click.group()
def key() -> None:
    """Make, list, change, rotate and revoke API keys. NAME is a key's id, or its name if no other active key has it."""


@key.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("inference",), show_default=True)
@_limits
@json_option
@_over_keys
def create(keys: Keys, /, name: str, scopes: tuple[str, ...], as_json: bool, **limits: Any) -> None:
    """Make a key. It is shown once, and kept only as a hash."""
    body = {"name": name, "scopes": list(scopes), **_given(limits)}
    made = keys.create(body, load(KeyRequestSchema(), body))
    if as_json:
        show_json(made)
    else:
        click.echo(made["secret"])


@key.command("list")
@json_option
@_over_keys
def list_keys(keys: Keys, as_json: bool) -> None:
    """Show all keys, without their secrets."""
    if as_json:
        show_json(keys.all())
        return
    for one in keys.all():
        made = f"{datetime.fromisoformat(one['created_at']).astimezone():%Y-%m-%d %H:%M}"
        scopes = ",".join(one["scopes"])
        click.echo(f"{one['id']}  {one['prefix'] + '…':8}  {made}  {one['status']:8}  {scopes:20}  {one['name']}")


@key.command("show")
@click.argument("name")
@json_option
@_over_keys
def show(keys: Keys, name: str, as_json: bool) -> None:
    """Show one key, with its limits."""
    _print(keys.one(name), as_json=as_json)


@key.command("update")
@click.argument("key_name", metavar="NAME")
@click.option("--name", help="Another name.")
@click.option("--all-models", is_flag=True, help="Let it ask all models.")
@_limits
@json_option
@_over_keys
def update(keys: Keys, /, key_name: str, name: str | None, all_models: bool, as_json: bool, **limits: Any) -> None:
    """Change a key. Options that are not given stay as they are."""
    wanted = {**_given(limits), **({"models": []} if all_models else {}), **({"name": name} if name else {})}
    if not wanted:
        raise click.UsageError("Say what to change, for example --requests-per-minute 60.")
    _print(keys.update(key_name, wanted, load(KeyChangeSchema(), wanted)), as_json=as_json)


@key.command("rotate")
@click.argument("name")
@click.option(
    "--grace", default="0m", show_default=True, help="How long the present secret still holds: 45m, 12h, 30d."
)
@json_option
@_over_keys
def rotate(keys: Keys, name: str, grace: str, as_json: bool) -> None:
    """Give a key another secret, which is shown once. Its jobs, limits and usage stay."""
    grace_s = seconds_of(grace)
    if grace_s is None or grace_s > MAX_GRACE_S:
        raise click.BadParameter("give minutes, hours or days, 30d at most: 45m, 12h, 7d", param_hint="--grace")
    found = keys.rotate(name, grace_s)
    if as_json:
        show_json(found)
        return
    until = found["old_secret_until"]
    click.echo(f"headrace | the old secret {f'holds until {until}' if until else 'has ended'}", err=True)
    click.echo(found["secret"])


@key.command("revoke")
@click.argument("name")
@json_option
@_over_keys
def revoke(keys: Keys, name: str, as_json: bool) -> None:
    """Revoke a key at once, and cancel its jobs."""
    found = keys.revoke(name)
    if as_json:
        show_json(found)
        return
    say(f"revoked {found['name']} ({found['id']}); {found['cancelled_jobs']} of its jobs were cancelled")


@click.command("usage")
@click.argument("name", required=False)
@click.option("--model", help="Id of a model.")
@click.option("--from", "start", help="A date or time in ISO 8601; 30 days ago if it is not given.")
@click.option("--to", "end", help="A date or time in ISO 8601; now if it is not given.")
@click.option("--by-day", "by", flag_value="day", help="A line for each day (UTC).")
@json_option
@url_option
@click.option("--key", envvar="HEADRACE_API_KEY", help="API key for --url; without --url the same as NAME.")
@click.pass_context
def usage(
    context: click.Context, /, name: str | None, as_json: bool, url: str | None, key: str | None, **period: str | None
) -> None:
    """Show tokens and cost by key and model; NAME: of one key, by its id or name."""
    if not url and _typed(context, "key"):
        name = name or key
    given = {"key": name, "model": period["model"], "from": period["start"], "to": period["end"], "by": period["by"]}
    body = {field: value for field, value in given.items() if value}
    query = load(UsageQuerySchema(), body)
    with closing(keys_of(context.obj, url, key)) as keys:
        report = keys.usage(body, query)
    if as_json:
        show_json(report)
        return
    for row in report["usage"]:
        day = f"{row['day']}  " if row["day"] else ""
        _line(f"{day}{row['key_name']}", row["model"], row, {row["currency"]: row["cost"]})
    _line("total", "", report["total"], report["total"]["cost"])


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
    seconds = seconds_of(text)
    return text if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _print(data: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(data)
        return
    for name, value in data.items():
        if isinstance(value, list):
            value = ", ".join(value) or "all"
        elif value is None:
            value = "no limit" if name.endswith("_per_minute") else "never"
        click.echo(f"  {name:20} {value}")


def _line(name: str, model: str, counts: Mapping[str, Any], costs: Mapping[str, float]) -> None:
    cost = ", ".join(f"{cost:.6f} {currency}" for currency, cost in costs.items())
    click.echo(
        f"{name:20}  {model:24}  {counts['jobs']:>8} jobs  {counts['prompt_tokens']:>10} + "
        f"{counts['completion_tokens']} tokens  {cost}"
    )

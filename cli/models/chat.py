"""`headrace chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from typing import Any

import click
import httpx

from cli import client as api
from cli.api.connection import connect, key_option, url_option
from cli.api.numbers import Finite
from gateway.settings import Settings


@click.command()
@click.argument("model")
@url_option
@key_option
@click.option("--system", help="Text of a system message.")
@click.option("--max-tokens", type=int, default=512, show_default=True)
@click.option("--temperature", type=Finite(), default=0.7, show_default=True)
@click.pass_obj
def chat(
    settings: Settings,
    model: str,
    url: str | None,
    key: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
) -> None:
    """Talk to a model in the terminal. /clear forgets, /exit or Ctrl-D leaves, Ctrl-C stops an answer."""
    with connect(settings, url, key) as client:
        api.raise_for_error(client.get(f"/models/{model}"))
        talk(client, model, system=system, max_tokens=max_tokens, temperature=temperature)


def talk(client: httpx.Client, model: str, *, system: str | None = None, **options: Any) -> None:
    """A conversation, until the person leaves. Raises: ServerError."""
    beginning = [{"role": "system", "content": system}] if system else []
    messages = list(beginning)
    while True:
        try:
            text = click.prompt("you", prompt_suffix="> ").strip()
        except click.Abort:
            click.echo()
            return
        if text in ("/exit", "/quit"):
            return
        if text == "/clear":
            messages = list(beginning)
            continue
        messages.append({"role": "user", "content": text})
        click.echo(f"{model}> ", nl=False)
        messages.append({"role": "assistant", "content": say(api.chat(client, model, messages, **options))})


def say(answer: api.Answer) -> str:
    """Print an answer as it comes, and return it. Ctrl-C stops it. Raises: ServerError."""
    pieces: list[str] = []
    try:
        for text in answer:
            pieces.append(text)
            click.echo(text, nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        answer.cancel()
        click.echo(" [stopped]", nl=False)
    click.echo()
    return "".join(pieces)

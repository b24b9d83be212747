"""Models that requests load, for tests: their entries, and how they are asked and looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from tests.stack import Stack, eventually

_ENTRY = """
[models.{name}]
name = "{name}"
description = "Of the fake engine"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = {{ {options} }}
"""


def entry(name: str, **options: Any) -> str:
    """A model of the fake engine for headrace.toml."""
    shown = (
        ", ".join(f"{option} = {value!r}" for option, value in options.items())
        .replace("True", "true")
        .replace("False", "false")
    )
    return _ENTRY.format(name=name, options=shown)


def status(client: httpx.Client, model: str) -> str:
    return str(client.get(f"/models/{model}").json()["data"]["status"])


def ask(client: httpx.Client, model: str, asked: Mapping[str, Any] = {}, **headers: str) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **asked}
    return client.post(f"/models/{model}/chat/completions", json=body, headers=headers)


def deployments(client: httpx.Client, model: str) -> list[dict[str, Any]]:
    """All of a model, newest first."""
    listed = client.get("/models/local/deployments", params={"model_id": model}).json()["data"]["deployments"]
    return [client.get(one["progress_url"]).json()["data"] for one in listed]


def unloaded(stack: Stack, client: httpx.Client, model: str) -> None:
    """Unload it, and wait until it is gone."""
    assert client.delete(f"/models/local/{model}").status_code in (200, 404)
    eventually(lambda: not stack.registry.replicas(model), f"{model} is gone")

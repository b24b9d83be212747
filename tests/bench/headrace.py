"""Headrace as a contestant: a stack of its own, and its chat."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.apart import lend
from tests.bench.server import Server
from tests.bench.workload import MODEL
from tests.stack import KEY, Stack

#: Loading and, for some, compiling.
LOAD_S = 600


@contextlib.contextmanager
def headrace(*models: str, step_s: float = 0.0, catalog: str = "", apart: str = "", **settings: Any) -> Iterator[Stack]:
    """The whole path, with a replica of each model. `step_s`: what a step of the fake engine takes.

    `catalog` is its headrace.toml; `apart` an engine that has an environment of its own.
    """
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        common = {"queue_limit": 5_000, "log_level": "warning", "lease_s": 5.0, "grace_s": 10.0}
        stack = Stack(Path(folder) / "s", **common, **settings)
        stack.settings.config.write_text(catalog)
        if apart:
            lend(apart, stack.folder)
        try:
            stack.up({})
            for model in models:
                stack.put(model, {"step_s": step_s} if model == "fake" else {})
            stack.wait_active(len(models), LOAD_S)
            yield stack
        finally:
            stack.close()


def contestant(stack: Stack, model: str = MODEL) -> Server:
    """Its chat."""
    replica = stack.replica(model)
    web = psutil.Process(stack.processes["web"].pid).children()[0].pid
    processes = {name: stack.processes[name].pid for name in ("redis", "keeper", "agent")}
    processes |= {"web": web, "model worker": replica.pid, "engine": replica.engine_pid}
    return Server(
        "headrace",
        stack.settings.http_port,
        f"/models/{model}/chat/completions",
        {"Authorization": f"Bearer {KEY}"},
        {"stream_options": {"include_usage": True}},
        processes,
    )

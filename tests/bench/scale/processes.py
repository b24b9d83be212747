"""What each real process keeps of Redis while nobody asks anything: its connections, and what it sends in a second.

Processes are started one after the other; each has what was added by it.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap
from gateway.cluster.registry import Registry
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.connection import connect
from tests.rpc import start_rpc
from tests.stack import KEY, Stack, eventually

#: How long each is left alone before it is counted, and for how long its commands are.
SETTLE_S, COUNT_S = 6.0, 10.0


def idle_processes() -> dict[str, dict[str, float]]:
    """Connections and commands a second of each kind of process."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        common = {"lease_s": Settings().lease_s}
        with closing(Stack(Path(folder) / "s", **common)) as stack:
            stack.start_redis()
            stack.redis = connect(stack.settings, retries=3)
            stack.store, stack.registry = JobStore(stack.redis), Registry(stack.redis)
            bootstrap(Credentials(stack.redis), KEY)
            return _added(stack)


def _added(stack: Stack) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    before = _state(stack)

    def count(name: str) -> None:
        nonlocal before
        time.sleep(SETTLE_S)
        after = _state(stack)
        found[name] = {what: round(after[what] - before[what], 1) for what in after}
        before = after
        print(f"  {name:14} {found[name]}", flush=True)

    stack.start("keeper")
    eventually(stack.registry.keeper, "the keeper is there")
    count("keeper")
    stack.start("agent")
    eventually(stack.registry.devices, "the agent is there")
    count("agent")
    stack.put("fake", {})
    stack.wait_active(1)
    count("model worker")
    stack.start("web")
    eventually(stack._ready, "the web process is ready")
    with stack.client() as client:  # its hub and its senders connect with the first request
        client.post("/models/fake/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    count("web")
    start_rpc(stack)
    count("rpc")
    stack.start("provider", settings=replace(stack.settings))
    eventually(stack.registry.providers, "the provider worker is there")
    count("provider")
    return found


def _state(stack: Stack) -> dict[str, float]:
    def commands() -> int:
        found: Any = stack.redis.info("stats")
        return int(found["total_commands_processed"])

    began, before = time.monotonic(), commands()
    time.sleep(COUNT_S)
    per_s = (commands() - before) / (time.monotonic() - began)
    clients: Any = stack.redis.info("clients")
    return {"connections": clients["connected_clients"], "commands_per_s": per_s}

"""Random sequences of what clients, processes and faults do, over the real scripts, stores, journalers and keepers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from gateway.store.embedded import server_command
from tests.conftest import wait_for_redis
from tests.faults.conftest import FULL, Ledger
from tests.interleavings.clock import Clock, Complaints, Secrets, install
from tests.interleavings.machine import Interleavings
from tests.interleavings.processes import Surroundings, WiredChannel
from tests.interleavings.server import Server
from tests.interleavings.world import World

SEQUENCES, STEPS = int(os.environ.get("HEADRACE_SEQUENCES") or (10_000 if FULL else 80)), 30

CATALOG = """
{"other": {"name": "Other", "description": "x", "version": "1", "capabilities": ["chat"], "engine": "fake",
"context_length": 100000, "max_tokens": 100000}}
"""


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[tuple[Surroundings, redis.Redis]]:
    """A redis-server that keeps nothing on its disk, and the way to it."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        socket, data = Path(folder) / "redis.sock", Path(folder)
        command = [*server_command(socket, data), "--appendonly", "no"]
        with (data / "redis.log").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            url = f"unix://{socket}"
            wait_for_redis(url)
            given = Settings(
                redis_url=url, data_dir=tmp_path, node="test", demo_model="", grace_s=2.0, lease_s=2.0, stall_s=8.0,
                models_json=CATALOG, stream_interval_s=0, stream_interval_max_s=0, queue_limit=5, max_preemptions=2,
            )  # fmt: skip
            client = redis.Redis.from_url(url, decode_responses=True)
            yield Surroundings(given, load_catalog(given)), client
            client.close()
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.timeout(3600 if FULL else 600)
def test_no_interleaving_breaks_the_promise(
    surroundings: tuple[Surroundings, redis.Redis], monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    around, client = surroundings
    clock, numbers, complaints = Clock(), Secrets(), Complaints()
    install(monkeypatch, clock, numbers, complaints)
    monkeypatch.setattr("gateway.queue.transport.Transport.Channel", WiredChannel)
    server = Server(client, clock)
    monkeypatch.setattr(
        Interleavings, "make_world", lambda: World(around, server, numbers, complaints.heard), raising=False
    )
    how_long = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    violations = 1
    try:
        run_state_machine_as_test(Interleavings, settings=how_long)
        violations = 0
    finally:
        ledger.counts["interleavings"] = {**Interleavings.counts, "violations": violations}

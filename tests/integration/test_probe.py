"""The health checks of containers, each against the real process: well, gone, and while Redis is away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.settings import Settings
from tests.rpc import start_rpc
from tests.stack import PATIENCE_S, REPOSITORY, Stack, eventually, free_port, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("p"), {}, flower_port=free_port()) as stack:
        start_rpc(stack)
        stack.start("provider")
        stack.start("flower", [sys.executable, "-m", "cli.flower"])
        yield stack


def probe(stack: Stack, *args: str, settings: Settings | None = None) -> tuple[int, str]:
    """Exit status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.probe", *args],
        cwd=REPOSITORY,
        env={**os.environ, **(settings or stack.settings).environ()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["web", "rpc", "keeper", "agent", "provider", "flower"])
def test_a_process_is_well_once_it_is_there(stack: Stack, name: str) -> None:
    assert eventually(lambda: probe(stack, name)[0] == 0, f"{name} is well")


def test_rest_with_tls_of_its_own(stack: Stack) -> None:
    settings = replace(stack.settings, http_tls="on", http_port=free_port())
    stack.start("web-2", settings=settings)
    eventually(lambda: probe(stack, "web", settings=settings) == (0, ""), "it is well")
    assert probe(stack, "web", settings=replace(settings, http_tls="off"))[0] == 1


@pytest.mark.parametrize(
    ("name", "elsewhere", "said"),
    [
        ("web", {"http_port": 1}, "web: http://127.0.0.1:1/health/live does not answer"),
        ("rpc", {"grpc_port": 1}, "rpc: gRPC at 127.0.0.1:1 does not answer"),
        ("rpc", {"grpc_port": 1, "tls_client_ca": "ca.pem"}, "rpc: gRPC at 127.0.0.1:1 does not answer"),
        ("flower", {"flower_port": 1}, "flower: http://127.0.0.1:1/healthcheck does not answer"),
        ("agent", {"node": "n2"}, "agent: the agent of n2.cpu0 sends no heartbeat"),
        ("provider", {"node": "n2"}, "provider: the provider worker of n2 sends no heartbeat"),
    ],
)
def test_one_that_is_not_there_is_told_in_a_line(
    stack: Stack, name: str, elsewhere: dict[str, object], said: str
) -> None:
    status, line = probe(stack, name, settings=replace(stack.settings, **elsewhere))
    assert status == 1
    assert line.startswith(said)


def test_a_name_that_is_none(stack: Stack) -> None:
    status, said = probe(stack, "webb")
    assert status == 1
    assert said.endswith("Got webb; choose one of web, rpc, keeper, provider, agent, flower.\n")
    assert probe(stack)[0] == 1


def test_without_redis_only_liveness_is_left(stack: Stack) -> None:
    nowhere = replace(stack.settings, redis_url="redis://127.0.0.1:1/0")
    for name in ("keeper", "agent", "provider"):
        status, line = probe(stack, name, settings=nowhere)
        assert status == 1
        assert line.startswith(f"{name}: Redis can't be asked")
        assert probe(stack, name, "--live", settings=nowhere) == (0, "")


def test_a_keeper_that_has_ended_is_noticed(stack: Stack) -> None:
    stack.kill("keeper")
    eventually(lambda: probe(stack, "keeper") == (1, "keeper: no keeper sends a heartbeat\n"), "its heartbeat expires")
    stack.start("keeper")
    eventually(lambda: probe(stack, "keeper")[0] == 0, "it is back")

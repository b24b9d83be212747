"""The files of docs/examples in a real Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus import EXAMPLES, Prometheus, in_haste, require_prometheus, scraping
from tests.stack import Stack, chat, eventually, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_prometheus()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("p"), {"fake": {"step_s": 0.01}}, lease_s=2.0) as stack:
        yield stack


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraping(tmp_path_factory.mktemp("t"), stack) as prometheus:
        yield prometheus


def test_its_own_tool_has_nothing_to_say(stack: Stack, tmp_path: Path) -> None:
    for command in (["rules", str(EXAMPLES / "alerts.yml")], ["config", str(in_haste(tmp_path, stack))]):
        found = subprocess.run(["promtool", "check", *command], check=False, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr


def test_it_sees_what_clients_have_seen(stack: Stack, prometheus: Prometheus) -> None:
    for stream in [chat(stack, max_tokens=30) for _ in range(5)]:
        assert stream.join().error is None
    eventually(lambda: prometheus.value('headrace_jobs_total{end="done"}') == 5, "it has counted them")
    assert prometheus.value('headrace_tokens_total{of="answer"}') == 150
    in_time = "histogram_quantile(0.9, sum by (le) (gen_ai_server_request_duration_seconds_bucket))"
    assert 0 < (prometheus.value(in_time) or 0) < 60
    assert prometheus.value("headrace_replica_slots") == stack.settings.max_batch_size
    assert not prometheus.alerts()


def test_an_alert_fires_and_is_over(stack: Stack, prometheus: Prometheus) -> None:
    stack.kill("keeper")
    eventually(lambda: prometheus.alerts() == {"HeadraceKeeperDown"}, "it fires")
    stack.start("keeper")
    eventually(lambda: not prometheus.alerts(), "it is over")

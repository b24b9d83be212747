"""A real Prometheus for tests, from Debian: `python -m tests.prometheus` (`make deps-prometheus`) installs it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import debian
from tests.stack import KEY, REPOSITORY, Stack, eventually, free_port

PACKAGES = ("prometheus",)
EXAMPLES = REPOSITORY / "docs" / "examples"


def require_prometheus() -> None:
    """Fail with what to install, if it is missing."""
    if debian.lacks(PACKAGES):
        pytest.fail("Debian's package prometheus is not installed: make deps-prometheus", False)


def in_haste(folder: Path, stack: Stack) -> Path:
    """The examples of docs/, with this gateway, and all that waits a minute there waiting a second."""
    config = (EXAMPLES / "prometheus.yml").read_text()
    changed = config.replace("127.0.0.1:8000", f"127.0.0.1:{stack.settings.http_port}").replace("15s", "1s")
    (folder / "prometheus.yml").write_text(changed)
    rules = (EXAMPLES / "alerts.yml").read_text()
    (folder / "alerts.yml").write_text(rules.replace("for: 1m", "for: 1s"))
    (folder / "headrace.key").write_text(KEY)
    return folder / "prometheus.yml"


class Prometheus:
    """One that scrapes a gateway as docs/metrics.md says."""

    def __init__(self, client: httpx.Client) -> None:
        """`client` for its API."""
        self._client = client

    def ready(self) -> bool:
        """Whether it has scraped the gateway."""
        with contextlib.suppress(httpx.HTTPError):
            return self.value("up") == 1
        return False

    def value(self, query: str) -> float | None:
        """The sum of what a query finds; None if that is nothing."""
        found = self._ask("query", query=query)["result"]
        return sum(float(one["value"][1]) for one in found) if found else None

    def alerts(self) -> set[str]:
        """Those that fire."""
        return {one["labels"]["alertname"] for one in self._ask("alerts")["alerts"] if one["state"] == "firing"}

    def _ask(self, path: str, **params: str) -> dict[str, Any]:
        return dict(self._client.get(path, params=params).raise_for_status().json()["data"])


@contextlib.contextmanager
def scraping(folder: Path, stack: Stack) -> Iterator[Prometheus]:
    """Started, and ended with the block."""
    port = free_port()
    command = ["prometheus", f"--config.file={in_haste(folder, stack)}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        ) as process,
    ):
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:
                prometheus = Prometheus(client)
                eventually(prometheus.ready, "Prometheus scrapes")
                yield prometheus
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(debian.install(PACKAGES) or None)

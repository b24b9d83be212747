"""Fixtures that start the real parts: a Redis server for the session, and the settings that lead to it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.embedded_redis import server_command
from gateway.redis import connect
from gateway.settings import Settings


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real redis-server on a unix socket, ended with the session."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        socket, data = Path(folder) / "redis.sock", Path(folder) / "redis"
        data.mkdir()
        with (Path(folder) / "redis.log").open("wb") as output:
            process = subprocess.Popen(server_command(socket, data), stdout=output, stderr=output)
        try:
            url = f"unix://{socket}"
            wait_for_redis(url)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def wait_for_redis(url: str, timeout_s: float = 10.0) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.exceptions.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings over the session's Redis, with an own data folder."""
    return Settings(redis_url=redis_url, data_dir=tmp_path, node="test", demo_model="", grace_s=2.0, lease_s=2.0)


@pytest.fixture
def redis_client(settings: Settings) -> Iterator[redis.Redis]:
    """An empty database."""
    client = connect(settings, retries=3)
    client.flushdb()
    yield client
    client.close()

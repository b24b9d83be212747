"""The process table of the Procfile, and a supervisor that keeps it running. Knows nothing of what the processes do.

It is a child subreaper, so a model worker that outlives its agent is still ended, and reaped, when the supervisor ends.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.backoff import Backoff
from gateway.directories import shipped
from gateway.process import notify
from gateway.process.children import adopt_orphans, end, reap
from gateway.process.environment import of_process
from gateway.process.start import how_ended, module_command, private_folder

#: Back-off before a process is restarted.
BACKOFF = Backoff(first_s=0.5, last_s=30.0)
#: A process that ran for this long had started: it is restarted at once, however often it ends. Only processes that end
#: during their start wait longer each time.
STARTED_S = 10.0
#: Seconds for everything but Redis to end after SIGTERM, beside what workers let their jobs have; then for Redis.
END_S, END_REDIS_S = 3.0, 2.0


def process_table() -> dict[str, list[str]]:
    """Name -> command, from the Procfile. Raises: InvalidSetting if the installation is damaged."""
    lines = (shipped() / "Procfile").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): shlex.split(command) for name, command in pairs}


@dataclass
class Supervised:
    """One process of the table."""

    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    next_start: float = 0.0
    #: How it ended the last time; empty if it has not.
    ended: str = ""


class Supervisor:
    """Starts processes, restarts those that crash, and ends them all."""

    def __init__(
        self, *, folder: Path, environ: Mapping[str, str], say: Callable[[str], None], shutdown_s: float = 3.0
    ) -> None:
        self._folder = folder
        self._end_s = shutdown_s + END_S
        self._logs = folder / "logs"
        self._status = folder / "run" / "status.json"
        self._say = say
        self._table: dict[str, Supervised] = {}
        self._left_out: dict[str, str] = {}
        self._tell = notify.service_manager()
        self._environ = {**os.environ, **environ}
        self.stopping = threading.Event()
        for path in (self._logs, self._status.parent):
            private_folder(path)
        adopt_orphans()

    def start(self, name: str, command: Iterable[str]) -> None:
        """Add a process to those that are kept running."""
        self._table[name] = Supervised(list(command))
        self._spawn(name)

    def leave_out(self, name: str, why: str) -> None:
        """Note what can't run here."""
        self._left_out[name] = why
        self._say(f"left out: {name}: {why}")

    def leaves_out(self, name: str) -> bool:
        """Whether `leave_out` was told so."""
        return name in self._left_out

    def note_ready(self) -> None:
        """Tell systemd, if it has started this, that all is up."""
        self._tell(notify.READY)

    def running(self, name: str) -> bool:
        """Whether it has not been reaped yet."""
        return self._table[name].process is not None

    def reap_and_restart(self) -> None:
        """Reap ended processes, and restart those that should run."""
        for pid, code in reap():
            for name, entry in self._table.items():
                if entry.process is not None and entry.process.pid == pid:
                    self._on_exit(name, entry, code)
        for name, entry in self._table.items():
            if entry.process is None and not self.stopping.is_set() and time.monotonic() >= entry.next_start:
                entry.restarts += 1
                self._spawn(name)

    def end_users(self) -> None:
        """End everything that uses Redis."""
        self.stopping.set()
        self._tell(notify.STOPPING)
        redis = self._table["redis"].process if "redis" in self._table else None
        end(self._children() - {redis.pid if redis else 0}, self._end_s)

    def end(self) -> None:
        """End everything: first what uses Redis, then Redis."""
        self.end_users()
        end(self._children(), END_REDIS_S)
        for entry in self._table.values():
            if entry.process is not None:
                entry.process.returncode = 0
        self._status.unlink(missing_ok=True)

    def _children(self) -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    def _spawn(self, name: str) -> None:
        # A child started by another thread would end with that thread.
        assert threading.current_thread() is threading.main_thread()
        entry = self._table[name]
        begin = module_command("cli.supervised", str(self._folder), name, str(os.getpid()))
        with (self._logs / f"{name}.log").open("ab") as output:
            entry.process = subprocess.Popen(
                [*begin, *_ours(entry.command)],
                env=of_process(name, self._environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        entry.started_at = time.monotonic()
        self._write_status()

    def _on_exit(self, name: str, entry: Supervised, code: int) -> None:
        assert entry.process is not None
        entry.process.returncode, entry.process = code, None
        if self.stopping.is_set():
            return
        lived_s = time.monotonic() - entry.started_at
        entry.failures = 1 if lived_s > STARTED_S else entry.failures + 1
        pause_s = BACKOFF.pause_s(entry.failures)
        entry.next_start = time.monotonic() + pause_s
        entry.ended = how_ended(code)
        self._say(f"{name} {entry.ended}; it starts again in {pause_s:g} s (see 'headrace logs {name}')")
        self._write_status()

    def _write_status(self) -> None:
        table = {
            name: {
                "pid": entry.process.pid if entry.process else None,
                "restarts": entry.restarts,
                "ended": entry.ended,
            }
            for name, entry in self._table.items()
        }
        draft = self._status.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), "processes": table, "left_out": self._left_out}))
        draft.replace(self._status)


def _ours(command: list[str]) -> list[str]:
    """A command of the Procfile, run by this Python."""
    if command[:2] == ["python", "-m"]:
        return module_command(*command[2:])
    return [sys.executable if part == "python" else part for part in command]

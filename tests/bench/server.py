"""A contestant behind HTTP, and the child processes that ask it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.apart import command
from tests.bench.workload import MAX_TOKENS

ROOT = Path(__file__).parents[2]


class Helper:
    """A child that answers a line of JSON with a line of JSON."""

    def __init__(self, module: str, *args: str, apart: str = "") -> None:
        """`apart`: the engine under whose interpreter it runs."""
        told = command(apart, module, *args) if apart else [sys.executable, "-m", module, *args]
        self._process = subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def read(self) -> Any:
        """The next answer."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a helper of the benchmark has ended with status {self._process.wait(30)}")
        return json.loads(line)

    def ask(self, question: Any) -> Any:
        """Send a question and wait for the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait()


@dataclass
class Server:
    """A contestant behind HTTP. `processes`: the pid of each part, for CPU seconds."""

    name: str
    port: int
    path: str
    headers: dict[str, str]
    extra: dict[str, Any]
    processes: dict[str, int]

    def run(self, load: Helper, texts: list[str], max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
        """One run: all prompts at once."""
        bodies = [
            {
                "messages": [{"role": "user", "content": text}],
                "max_tokens": max_tokens,
                "temperature": 0,
                "stream": True,
            }
            | self.extra
            for text in texts
        ]
        return self.ask(
            load,
            {"host": "127.0.0.1", "port": self.port, "path": self.path, "headers": self.headers, "bodies": bodies},
        )

    def ask(self, load: Helper, question: Any) -> dict[str, Any]:
        """Have the load generator do a run, and count the CPU seconds of each part."""
        before = self._cpu()
        result = load.ask(question)
        after = self._cpu()
        cpu = {name: after[name] - before[name] for name in after} | {"load generator": result.pop("cpu_s")}
        return {**result, "cpu_s": cpu}

    def _cpu(self) -> dict[str, float]:
        return {name: _cpu_seconds(pid) for name, pid in self.processes.items()}


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system

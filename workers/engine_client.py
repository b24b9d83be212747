"""A model worker's side of its engine process: start it, feed it, read its steps, notice its death."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.failures import DeploymentFailed, FailureReason
from workers.engines.base import EngineConfig, EngineInfo, Report, SequenceOutput, SequenceRequest, no_report
from workers.failures import classify_exit, oom_kills
from workers.frames import FrameSocket
from workers.pace import Pace

#: How long an engine may take to end after it has closed its socket.
END_S = 1.0


class EngineDied(Exception):
    """The engine process has ended, or its socket is closed."""


class EngineStartFailed(DeploymentFailed):
    """The engine could not be loaded; the message is its own."""


@dataclass(frozen=True)
class StepFrame:
    """What one or more steps made, and how many sequences the engine holds after them."""

    outputs: Sequence[SequenceOutput]
    sequences: int
    steps: int


class EngineProcess:
    """One engine process. `read` belongs to one thread; the rest may be called from any."""

    def __init__(self, process: subprocess.Popen[bytes], frames: FrameSocket) -> None:
        self._process = process
        self._frames = frames
        self._write_lock = threading.Lock()
        self._oom_kills = oom_kills()
        self._ended_by_us = False

    @classmethod
    def start(cls, config: EngineConfig, pace: Pace) -> EngineProcess:
        """Spawn the process; it inherits stdout and stderr, so its log lies in the worker's."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.engine_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # It is given files. Without this its libraries may look for more on the hub, kernels to run included.
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        engine = cls(process, FrameSocket(ours))
        engine._send({"config": asdict(config), "pace": list(pace)})
        return engine

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(
        self, timeout_s: float, on_progress: Report = no_report, until: Callable[[], bool] = lambda: False
    ) -> EngineInfo:
        """Wait for the weights; `on_progress` hears how far they are.

        Raises:
            EngineStartFailed: it can't be loaded, has died, or `until` says that nobody waits any more (CANCELLED).
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if until():
                raise EngineStartFailed(FailureReason.CANCELLED, "nobody wants it any more")
            try:
                frame = self._receive(0.5)
            except EngineDied as error:
                new_oom_kills = oom_kills() - self._oom_kills
                reason = classify_exit(self._process.returncode, new_oom_kills=new_oom_kills)
                raise EngineStartFailed(*reason) from error
            if frame is None:
                continue
            if frame["op"] == "failed":
                raise EngineStartFailed(FailureReason(frame["reason"]), frame["message"])
            if frame["op"] == "ready":
                return EngineInfo(**frame["info"])
            on_progress(frame["stage"], frame["done"], frame["total"])
        raise EngineStartFailed(FailureReason.TIMED_OUT, f"not ready after {timeout_s:.0f} s")

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Add sequences to the batch. Raises: EngineDied."""
        self._send({"op": "add", "requests": requests})

    def cancel(self, sequence_ids: Sequence[int]) -> None:
        """Take sequences out. A dead engine has none."""
        try:
            self._send({"op": "cancel", "ids": list(sequence_ids)})
        except EngineDied:
            return

    def read(self, timeout_s: float) -> StepFrame | None:
        """The next steps, or None after the time-out. Raises: EngineDied."""
        frame = self._receive(timeout_s)
        if frame is None:
            return None
        return StepFrame([_unpacked(out) for out in frame["out"]], frame["sequences"], frame["steps"])

    @property
    def was_killed(self) -> bool:
        """Whether it has died because somebody outside has killed it, neither us nor the kernel for its memory."""
        signals = (-signal.SIGKILL, -signal.SIGTERM)
        by_signal = self._process.poll() in signals and oom_kills() == self._oom_kills
        return by_signal and not self._ended_by_us

    def kill(self) -> None:
        """End it at once, and reap it."""
        self._ended_by_us = self._ended_by_us or self._process.poll() is None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, and close its socket; only for the thread that reads."""
        self.kill()
        self._frames.socket.close()

    def _receive(self, timeout_s: float) -> dict | None:  # type: ignore[type-arg]
        if not self._frames.buffered and not select.select([self._frames.socket], [], [], timeout_s)[0]:
            return None
        try:
            return dict(self._frames.receive())
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)  # its socket closes a moment before it has ended
            self.kill()
            raise EngineDied(f"engine {self.pid} ended with status {self._process.returncode}") from error

    def _send(self, value: object) -> None:
        try:
            with self._write_lock:
                self._frames.send(value)
        except OSError as error:
            raise EngineDied(f"engine {self.pid} does not listen: {error}") from error


def _unpacked(fields: list[Any]) -> SequenceOutput:
    output = SequenceOutput._make(fields)
    return output if output.vector is None else output._replace(vector=base64.b64decode(output.vector))

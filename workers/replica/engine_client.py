"""A model worker's side of its engine process: start it, feed it, read its steps, notice its death."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.models.engines import spec_of
from gateway.process.crashes import oom_kills
from gateway.process.environment import public
from gateway.store.codec import dumps, loads
from workers.engines.base import EngineConfig, EngineInfo, Report, SequenceRequest, no_report
from workers.engines.children import spawn
from workers.engines.failures import ChildEnded, failure_from
from workers.engines.flush_interval import FlushInterval
from workers.engines.frames import FrameSocket
from workers.engines.steps import StepFrame
from workers.host.failures import failure_of_exit

#: Longest wait until the engine process has read a frame. Its reader does nothing else, so it hangs.
SEND_S = 10.0
#: How long an engine may take to exit after it has closed its socket.
END_S = 1.0


class EngineDied(Exception):
    """The engine process has ended, or its socket is closed."""


class EngineStartFailed(DeploymentFailed):
    """The engine could not be loaded. The message is the engine's own."""


class EngineProcess:
    """One engine process. Only one thread may call `read` and `close`; the rest is thread-safe."""

    def __init__(self, process: subprocess.Popen[bytes], frames: FrameSocket) -> None:
        self._process = process
        self._frames = frames
        self._write_lock = threading.Lock()
        #: Ids of submitted sequences that have not ended yet.
        self._open: set[int] = set()
        self._oom_kills = oom_kills()
        self._ended_by_us = False

    @classmethod
    def start(cls, config: EngineConfig, pace: FlushInterval, *, python: str = "") -> EngineProcess:
        """Spawn the process, under this interpreter or another one. It inherits stdout and stderr, so it writes into
        the worker's log.

        Raises: ValueError if there is no such engine.
        """
        spec = spec_of(config.engine)
        # It gets local files. Without this its libraries may download more from the hub, even kernels to run.
        env = {**public(os.environ), "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
        process, ours = spawn("workers.engines.process", python=python, env=env)
        ours.settimeout(SEND_S)
        engine = cls(process, FrameSocket(ours, dumps=dumps, loads=loads))
        engine._send({"implementation": spec.implementation, "config": asdict(config), "pace": list(pace)})
        return engine

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(
        self, timeout_s: float, on_progress: Report = no_report, until: Callable[[], bool] = lambda: False
    ) -> EngineInfo:
        """Wait until the weights are loaded. `on_progress` is called with the progress.

        Raises:
            EngineStartFailed: it can't be loaded, has died, took too long, or `until` returned True (CANCELLED).
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if until():
                raise EngineStartFailed(FailureReason.CANCELLED, "the replica is no longer desired")
            try:
                frame = self._receive(0.5)
            except EngineDied as error:
                raise EngineStartFailed(*self._failure_of_exit(self._process.returncode)) from error
            try:
                info = None if frame is None else self._on_loading_frame(frame, on_progress)
            except (KeyError, TypeError, ValueError) as error:
                self.kill()
                message = f"the engine sent an invalid frame: {error!r}"
                raise EngineStartFailed(FailureReason.ENGINE_CRASHED, message) from error
            if info is not None:
                return info
        raise EngineStartFailed(FailureReason.TIMED_OUT, f"not ready after {timeout_s:.0f} s")

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Add sequences to the batch. Raises: EngineDied."""
        self._open.update(request.sequence_id for request in requests)
        self._send({"op": "add", "requests": requests})

    def cancel(self, sequence_ids: Sequence[int]) -> None:
        """Take sequences out. A dead engine has none."""
        try:
            self._send({"op": "cancel", "ids": list(sequence_ids)})
        except EngineDied:
            return

    def read(self, timeout_s: float) -> StepFrame | None:
        """The next steps, or None after the time-out. The engine is killed if a frame makes no sense.

        Raises:
            EngineDied: it has ended, or was killed for an invalid frame.
        """
        frame = self._receive(timeout_s)
        if frame is None:
            return None
        try:
            step = StepFrame.parse(frame)
            for output in step.outputs:
                if output.sequence_id not in self._open:
                    raise ValueError(f"an output of sequence {output.sequence_id}, which nobody has asked for")
                if output.finish_reason is not None:
                    self._open.discard(output.sequence_id)
        except ValueError as error:
            self.kill()
            raise EngineDied(f"engine {self.pid} was ended: it sent {error}") from error
        return step

    @property
    def was_killed(self) -> bool:
        """Whether it was killed from outside, neither by us nor by the kernel for its memory."""
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

    def _receive(self, timeout_s: float) -> Any:
        """The next frame; None after the time-out. Raises: EngineDied."""
        try:
            frame = self._frames.receive(timeout_s)
            if frame is None:
                raise ValueError("null")
            return frame
        except TimeoutError:
            return None
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)  # its socket closes a moment before it exits
            self.kill()
            raise EngineDied(f"engine {self.pid} ended with status {self._process.returncode}: {error}") from error
        except ValueError as error:
            self.kill()
            raise EngineDied(f"engine {self.pid} was ended: it sent what is no frame: {error}") from error

    def _send(self, value: object) -> None:
        try:
            with self._write_lock:
                self._frames.send(value)
        except OSError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self.kill()  # half a frame may be sent, so the stream is out of step
            raise EngineDied(f"engine {self.pid} does not listen: {error}") from error

    def _on_loading_frame(self, frame: Any, on_progress: Report) -> EngineInfo | None:
        """Handle a frame that the engine sends while it loads. Returns its info when it is ready.

        Raises:
            EngineStartFailed: it can't be loaded.
            KeyError, TypeError, ValueError: the frame is invalid.
        """
        if frame["op"] == "failed":
            failure = failure_from(frame)
            if isinstance(failure, ChildEnded):
                reason, message = self._failure_of_exit(failure.status)
                raise EngineStartFailed(reason, f"{failure.child}: {message}")
            raise EngineStartFailed(FailureReason(failure.reason), str(failure))
        if frame["op"] == "ready":
            return EngineInfo(**frame["info"])
        on_progress(str(frame["stage"]), int(frame["done"]), int(frame["total"]))
        return None

    def _failure_of_exit(self, status: int) -> tuple[FailureReason, str]:
        return failure_of_exit(status, new_oom_kills=oom_kills() - self._oom_kills)

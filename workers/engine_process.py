"""The engine process: `python -m workers.engine_process FD`. Owns the weights; knows token ids only.

A reader thread takes frames from the model worker at any time and ends the process when the socket closes. The thread
that steps also sends: an engine may hold the GIL for a whole step, and a writer thread would be late by just that.
"""

from __future__ import annotations

import base64
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from workers.engines import load_engine
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.failures import classify
from workers.frames import FrameSocket

log = logging.getLogger("headrace.engine")

Inbox = queue.SimpleQueue[dict[str, Any]]


def main() -> None:
    """Load, then step for ever. The process ends with its parent."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    frames = FrameSocket(socket.socket(fileno=int(sys.argv[1])))
    config = EngineConfig(**frames.receive())
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(frames, inbox), daemon=True).start()
    started = time.monotonic()
    try:
        engine = load_engine(config, partial(_report, frames))
    except Exception as error:  # the process' edge: say why, then end
        log.exception("engine failed to load")
        reason, message = classify(error)
        frames.send({"op": "failed", "reason": reason, "message": message})
        os._exit(1)  # at once: a library's thread may still run
    try:
        frames.send({"op": "ready", "info": asdict(engine.info), "load_s": time.monotonic() - started})
        serve(engine, inbox, frames.send)
    except OSError:
        os._exit(0)  # the model worker is gone
    except Exception:
        log.exception("engine failed")
        os._exit(1)


def _report(frames: FrameSocket, stage: str, done: int, total: int) -> None:
    frames.send({"op": "progress", "stage": stage, "done": done, "total": total})


def serve(engine: Engine, inbox: Inbox, send: Callable[[Any], None]) -> None:
    """Take everything that has arrived, step, report; wait when there is nothing to do."""
    while True:
        refused: list[SequenceOutput] = []
        while not inbox.empty() or not engine.has_work():
            _obey(engine, inbox.get(), refused)
            if refused:
                break
        outputs = refused + (engine.step() if engine.has_work() else [])
        send({"op": "step", "out": [_packed(output) for output in outputs], "sequences": engine.num_sequences()})


def _packed(output: SequenceOutput) -> list[Any]:
    vector = None if output.vector is None else base64.b64encode(output.vector).decode()
    return [output.sequence_id, list(output.token_ids), output.logprobs, output.finish_reason, output.error, vector]


def _obey(engine: Engine, frame: dict[str, Any], refused: list[SequenceOutput]) -> None:
    if frame["op"] == "cancel":
        for sequence_id in frame["ids"]:
            engine.cancel(sequence_id)
        return
    for raw in frame["requests"]:
        sampling = Sampling(**raw["sampling"]) if raw["sampling"] else None
        request = SequenceRequest(**{**raw, "sampling": sampling})
        try:
            engine.add(request)
        except EngineRequestError as error:
            refused.append(SequenceOutput(request.sequence_id, [], None, "error", str(error)))


def _read(frames: FrameSocket, inbox: Inbox) -> None:
    try:
        while True:
            inbox.put(frames.receive())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()

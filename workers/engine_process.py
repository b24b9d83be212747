"""The engine process: `python -m workers.engine_process FD`. Owns the weights; knows token ids only.

A reader thread takes frames from the model worker at any time and ends the process when the socket closes; a writer
thread sends them, so that a slow reader does not stop a step.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from workers.engines import load_engine
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.frames import FrameSocket

log = logging.getLogger("headrace.engine")

Inbox = queue.SimpleQueue[dict[str, Any]]
Outbox = queue.SimpleQueue[dict[str, Any]]


def main() -> None:
    """Load, then step for ever. The process ends with its parent."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    frames = FrameSocket(socket.socket(fileno=int(sys.argv[1])))
    config = EngineConfig(**frames.receive())
    inbox: Inbox = queue.SimpleQueue()
    outbox: Outbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(frames, inbox), daemon=True).start()
    threading.Thread(target=_write, args=(frames, outbox), daemon=True).start()
    started = time.monotonic()
    try:
        engine = load_engine(config)
    except Exception as error:  # the process' edge: say why, then end
        log.exception("engine failed to load")
        frames.send({"op": "failed", "reason": type(error).__name__, "message": str(error)})
        sys.exit(1)
    outbox.put({"op": "ready", "info": asdict(engine.info), "load_s": time.monotonic() - started})
    serve(engine, inbox, outbox)


def serve(engine: Engine, inbox: Inbox, outbox: Outbox) -> None:
    """Take everything that has arrived, step, report; wait when there is nothing to do."""
    while True:
        refused: list[SequenceOutput] = []
        while not inbox.empty() or not engine.has_work():
            _obey(engine, inbox.get(), refused)
            if refused:
                break
        outputs = refused + (engine.step() if engine.has_work() else [])
        out = [[o.sequence_id, list(o.token_ids), o.logprobs, o.finish_reason, o.error] for o in outputs]
        outbox.put({"op": "step", "out": out, "sequences": engine.num_sequences()})


def _obey(engine: Engine, frame: dict[str, Any], refused: list[SequenceOutput]) -> None:
    if frame["op"] == "cancel":
        for sequence_id in frame["ids"]:
            engine.cancel(sequence_id)
        return
    for raw in frame["requests"]:
        request = SequenceRequest(**{**raw, "sampling": Sampling(**raw["sampling"])})
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


def _write(frames: FrameSocket, outbox: Outbox) -> None:
    try:
        while True:
            frames.send(outbox.get())
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()

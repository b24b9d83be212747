"""The engine process: `python -m workers.engine_process FD`. Owns the weights; knows token ids only.

A reader thread takes frames from the model worker at any time and ends the process when the socket closes. The thread
that steps also sends: an engine may hold the GIL for a whole step, and a writer thread would be late by just that.
Many steps go into one frame when nobody would see the difference: each frame wakes the model worker.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from gateway.process import begin_child
from workers.engines import load_engine
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.failures import classify
from workers.frames import FrameSocket
from workers.pace import Pace
from workers.steps import StepFrame

log = logging.getLogger("headrace.engine")

Inbox = queue.SimpleQueue[Any]


def main() -> None:
    """Load, then step for ever. The process ends with its parent."""
    begin_child()
    frames = FrameSocket(socket.socket(fileno=int(sys.argv[1])))
    start = frames.receive()
    config, pace = EngineConfig(**start["config"]), Pace(*start["pace"])
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
        serve(engine, inbox, Outbox(frames.send, pace))
    except OSError:
        os._exit(0)  # the model worker is gone
    except Exception:
        log.exception("engine failed")
        os._exit(1)


def _report(frames: FrameSocket, stage: str, done: int, total: int) -> None:
    frames.send({"op": "progress", "stage": stage, "done": done, "total": total})


class Outbox:
    """Outputs on their way to the model worker: the first and the last of a sequence at once, the rest in its pace."""

    def __init__(self, send: Callable[[Any], None], pace: Pace) -> None:
        self._send = send
        self._pace = pace
        self._begun: set[int] = set()
        self._held: dict[int, SequenceOutput] = {}
        self._steps = 0
        self._sent_at = float("-inf")

    def put(self, outputs: Iterable[SequenceOutput], *, sequences: int) -> None:
        """Take what one step has made; the engine holds so many sequences after it. Raises: OSError."""
        self._steps += 1
        urgent: list[SequenceOutput] = []
        for output in outputs:
            if output.sequence_id in self._held:
                output = _joined(self._held.pop(output.sequence_id), output)
            if output.finish_reason is not None:
                self._begun.discard(output.sequence_id)
                urgent.append(output)
            elif output.sequence_id not in self._begun:
                self._begun.add(output.sequence_id)
                urgent.append(output)
            else:
                self._held[output.sequence_id] = output
        now = time.monotonic()
        if now >= self._sent_at + self._pace.interval_s(sequences):
            urgent += self._held.values()
            self._held, self._sent_at = {}, now
        elif not urgent:
            return
        self._send(StepFrame(urgent, sequences, self._steps).pack())
        self._steps = 0


def _joined(first: SequenceOutput, second: SequenceOutput) -> SequenceOutput:
    """Two outputs of one sequence as one."""
    logprobs = [*(first.logprobs or ()), *(second.logprobs or ())] or None
    return second._replace(token_ids=[*first.token_ids, *second.token_ids], logprobs=logprobs)


def serve(engine: Engine, inbox: Inbox, outbox: Outbox) -> None:
    """Take everything that has arrived, step, report; wait when there is nothing to do."""
    while True:
        refused: list[SequenceOutput] = []
        while not inbox.empty() or not engine.has_work():
            _obey(engine, inbox.get(), refused)
            if refused:
                break
        outputs = refused + (engine.step() if engine.has_work() else [])
        outbox.put(outputs, sequences=engine.num_sequences())


def _obey(engine: Engine, frame: Any, refused: list[SequenceOutput]) -> None:
    """Do what a frame says. What can't be done for one request ends that request, not the others of the engine."""
    match frame:
        case {"op": "cancel", "ids": [*ids]}:
            for sequence_id in ids:
                engine.cancel(sequence_id)
        case {"op": "add", "requests": [*requests]}:
            refused += [refusal for raw in requests if (refusal := _add(engine, raw))]
        case _:
            log.error("a frame that means nothing was left out: %.200r", frame)


def _add(engine: Engine, raw: Any) -> SequenceOutput | None:
    """Hand one request to the engine. Returns the refusal, if it can't be taken."""
    if not isinstance(raw, dict) or not isinstance(raw.get("sequence_id"), int):
        log.error("a request without a sequence was left out: %.200r", raw)
        return None
    try:
        sampling = Sampling(**raw["sampling"]) if raw["sampling"] else None
        engine.add(SequenceRequest(**{**raw, "sampling": sampling}))
    except EngineRequestError as error:
        why = str(error)
    except Exception as error:  # the edge of one request: libraries raise what they like
        log.exception("the engine could not take sequence %s", raw["sequence_id"])
        why = f"The engine could not take this request: {error!r:.300}"
    else:
        return None
    return SequenceOutput(raw["sequence_id"], [], None, "error", why)


def _read(frames: FrameSocket, inbox: Inbox) -> None:
    while True:
        try:
            inbox.put(frames.receive())
        except ValueError:
            log.exception("a frame that can't be read was left out")
        except (EOFError, OSError):
            os._exit(0)


if __name__ == "__main__":
    main()

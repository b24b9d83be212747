"""The engine process: `python -m workers.engines.process FD`. Owns the weights; knows token ids only.

A reader thread takes frames from the model worker at any time and ends the process when the socket closes. The thread
that steps also sends: an engine may hold the GIL for a whole step, and a writer thread would be late by just that.
Many steps go into one frame when nobody would see the difference: each frame wakes the model worker.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from workers.engines import load_engine
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.engines.children import log_lines, parent
from workers.engines.failures import to_payload
from workers.engines.flush_interval import FlushInterval
from workers.engines.frames import FrameSocket
from workers.engines.steps import StepFrame, StepTimes

log = logging.getLogger("headrace.engine")

#: Id of the trial sequence that shows whether an engine still works, and its most steps.
TRIAL_ID, TRIAL_STEPS = 2**40, 1_000

Inbox = queue.SimpleQueue[Any]


def main() -> None:
    """Load, then step for ever. The process ends with its parent."""
    log_lines()
    frames = parent()
    start = frames.receive()
    config, pace = EngineConfig(**start["config"]), FlushInterval(*start["pace"])
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(frames, inbox), daemon=True).start()
    started = time.monotonic()
    try:
        engine = load_engine(start["implementation"], config, partial(_report, frames))
    except Exception as error:  # the process' edge: say why, then end
        log.exception("engine failed to load")
        frames.send({"op": "failed", **to_payload(error)})
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
    """Sends outputs to the model worker: the first and the last of a sequence at once, the rest in intervals."""

    def __init__(self, send: Callable[[Any], None], pace: FlushInterval) -> None:
        self._send = send
        self._pace = pace
        self._times = StepTimes()
        self._begun: set[int] = set()
        self._held: dict[int, SequenceOutput] = {}
        self._steps, self._steps_s = 0, 0.0
        self._sent_at = float("-inf")

    def put(
        self, outputs: Sequence[SequenceOutput], *, step_s: float, sequences: int, streams: int, kv_used_tokens: int = 0
    ) -> None:
        """Take the outputs of one step that took so long, and the numbers of sequences, streams and tokens after it.

        Raises: OSError.
        """
        self._steps, self._steps_s = self._steps + 1, self._steps_s + step_s
        if self._only_went_on(outputs, sequences):
            self._times.note(step_s, sequences=len(outputs))
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
        if now >= self._sent_at + self._pace.interval_s(streams):
            urgent += self._held.values()
            self._held, self._sent_at = {}, now
        elif not urgent:
            return
        times = self._times.base_s, self._times.each_s
        self._send(StepFrame(urgent, sequences, self._steps, *times, kv_used_tokens, self._steps_s).pack())
        self._steps, self._steps_s = 0, 0.0

    def _only_went_on(self, outputs: Sequence[SequenceOutput], sequences: int) -> bool:
        """Whether all sequences have made a token each, and none its first one: no prompt was computed beside them."""
        ended = sum(output.finish_reason is not None for output in outputs)
        return len(outputs) == sequences + ended > 0 and all(
            len(output.token_ids) == 1 and output.sequence_id in self._begun for output in outputs
        )


def _joined(first: SequenceOutput, second: SequenceOutput) -> SequenceOutput:
    """Join two outputs of one sequence."""
    logprobs = [*(first.logprobs or ()), *(second.logprobs or ())] or None
    likely = [*(first.likely or ()), *(second.likely or ())] or None
    ids = [*first.token_ids, *second.token_ids]
    prompt, cached = first.prompt or second.prompt, first.cached or second.cached
    return second._replace(token_ids=ids, logprobs=logprobs, likely=likely, prompt=prompt, cached=cached)


def serve(engine: Engine, inbox: Inbox, outbox: Outbox) -> None:
    """Take all frames that have arrived, step, send; wait while there is nothing to do."""
    batch = Batch(engine)
    while True:
        while not inbox.empty() or not engine.has_work():
            batch.obey(inbox.get())
            if batch.refused:
                break
        begun = time.monotonic()
        outputs = batch.step()
        step_s = time.monotonic() - begun
        counts = {"sequences": engine.num_sequences(), "streams": batch.num_jobs()}
        outbox.put(outputs, step_s=step_s, kv_used_tokens=engine.kv_used_tokens(), **counts)


class Batch:
    """The requests in the engine, so that an error of its library is blamed on the request that caused it.

    If that is not clear, the error is raised: the process ends, and all its jobs count a crash.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[int, SequenceRequest] = {}
        #: Refused requests, to be reported with the next step.
        self.refused: list[SequenceOutput] = []

    def obey(self, frame: Any) -> None:
        """Handle a frame. An error of one request ends that request, not the others."""
        match frame:
            case {"op": "cancel", "ids": [*ids]}:
                for sequence_id in ids:
                    self._cancel(sequence_id)
            case {"op": "add", "requests": [*requests]}:
                for raw in requests:
                    self._add(raw)
            case _:
                log.error("a frame that means nothing was left out: %.200r", frame)

    def step(self) -> list[SequenceOutput]:
        """The refusals, then the outputs of one step."""
        outputs, self.refused = self.refused, []
        if self._engine.has_work():
            outputs += self._stepped()
        for output in outputs:
            if output.finish_reason is not None:
                self._open.pop(output.sequence_id, None)
        return outputs

    def num_jobs(self) -> int:
        """The number of jobs with sequences: a job has one stream, however many answers it has."""
        return len({request.key.partition("/")[0] for request in self._open.values()})

    def _stepped(self) -> list[SequenceOutput]:
        try:
            return self._engine.step()
        except Exception as error:
            if len(self._open) != 1:
                for open_id, one in self._open.items():
                    log.error("sequence %d was in the step that has failed", open_id, extra=one.log_ids)
                raise
            ((sequence_id, request),) = self._open.items()
            log.exception("a step has failed, and sequence %d was alone in it", sequence_id, extra=request.log_ids)
            self._engine.cancel(sequence_id)
            self._require_sound(request)
            return [SequenceOutput(sequence_id, [], None, "failed", f"The engine failed: {error!r:.300}")]

    def _require_sound(self, request: SequenceRequest) -> None:
        """Run a small trial request of the same kind. Raises: any error, if the engine does not work any more."""
        asked = request.sampling
        small = asked and Sampling(max_tokens=1, temperature=0.0, grammar=asked.grammar)
        self._engine.add(SequenceRequest(TRIAL_ID, [0], small, request.eos_ids))
        for _ in range(TRIAL_STEPS):
            if any(output.sequence_id == TRIAL_ID and output.finish_reason for output in self._engine.step()):
                return
        raise RuntimeError("the engine makes no token any more")

    def _cancel(self, sequence_id: Any) -> None:
        try:
            self._engine.cancel(sequence_id)
        except Exception as error:  # the edge of one request
            ids = self._open[sequence_id].log_ids if sequence_id in self._open else {}
            log.exception("sequence %.20r can't be cancelled", sequence_id, extra=ids)
            if sequence_id in self._open:
                self.refused.append(SequenceOutput(sequence_id, [], None, "failed", f"{error!r:.300}"))
        else:
            self._open.pop(sequence_id, None)  # it has no part in the next step

    def _add(self, raw: Any) -> None:
        """Add one request to the engine, or note why it was refused."""
        if not isinstance(raw, dict) or not isinstance(raw.get("sequence_id"), int):
            log.error("a request without a sequence was left out: %.200r", raw)
            return
        try:
            sampling = Sampling(**raw["sampling"]) if raw["sampling"] else None
            request = SequenceRequest(**{**raw, "sampling": sampling})
            self._engine.add(request)
        except EngineRequestError as error:
            why = str(error)
        except Exception as error:  # the edge of one request: libraries raise what they like
            log.exception("the engine could not take sequence %s", raw["sequence_id"], extra=raw.get("log_ids"))
            why = f"The engine could not take this request: {error!r:.300}"
        else:
            self._open[request.sequence_id] = request
            return
        self.refused.append(SequenceOutput(raw["sequence_id"], [], None, "error", why))


def _read(frames: FrameSocket, inbox: Inbox) -> None:
    while True:
        try:
            inbox.put(frames.receive())
        except ValueError:
            log.exception("a frame that can't be read was left out")
        except (EOFError, OSError):
            os._exit(0)
        except BaseException:
            log.exception("nothing is heard any more")
            os._exit(1)  # an engine that gets no frames is of no use


if __name__ == "__main__":
    main()

"""Has grammars tried by another process (`workers/engines/grammars/trial_process.py`), and remembers its verdicts."""

from __future__ import annotations

import hashlib
import logging
import signal
import subprocess
from collections import OrderedDict

from workers.engines.base import EngineRequestError
from workers.engines.children import greet, spawn
from workers.engines.frames import FrameSocket

log = logging.getLogger("headrace.engine")

#: Processor time that one grammar may take.
CPU_S = 6
#: What may pass until a grammar is tried, the start of the process included. It yields to all others.
PATIENCE_S = 120.0
#: Verdicts that are kept.
MAX_KEPT = 1024
_TOO_MUCH = "The grammar takes more time or memory to compile than one request may; make it smaller."


class Trial:
    """The process, started with the first grammar and again when it has ended. For one thread."""

    def __init__(self, model_path: str, vocabulary: int, eos_id: int, *, cpu_s: int = CPU_S) -> None:
        """`cpu_s` is the processor time that one grammar may take."""
        self._hello = {"model_path": model_path, "vocabulary": vocabulary, "eos_id": eos_id, "cpu_s": cpu_s}
        self._verdicts: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._frames: FrameSocket | None = None
        #: How often it was ended: what it had compiled by then is more than one process should keep.
        self.ended = 0

    def require(self, grammar: str) -> float:
        """The processor time that each token of it takes.

        Raises: EngineRequestError if the grammar can't be compiled, or takes too much.
        """
        key = hashlib.sha256(grammar.encode()).digest()
        verdict = self._verdicts.pop(key, None)
        if verdict is None:
            verdict = self._ask(grammar)
        self._verdicts[key] = verdict
        while len(self._verdicts) > MAX_KEPT:
            self._verdicts.popitem(last=False)
        error, each_s = verdict
        if error:
            raise EngineRequestError(error)
        return each_s

    def _ask(self, grammar: str) -> tuple[str, float]:
        while True:
            fresh = self._frames is None
            try:
                frames = self._frames or self._start()
                frames.send({"grammar": grammar})
                told = frames.receive(PATIENCE_S)
            except (OSError, EOFError, ValueError) as error:
                status = self.close()
                log.warning("the process that tries grammars has ended with status %s: %r", status, error)
                # It may have been killed while it was idle, or have too little left after others.
                if fresh or status == -signal.SIGPROF or isinstance(error, TimeoutError):
                    return _TOO_MUCH, 0.0
            else:
                if told["full"]:
                    self.close()
                return str(told["error"]), float(told["each_s"])

    def _start(self) -> FrameSocket:
        self._process, ours = spawn("workers.engines.grammars.trial_process", stdout=subprocess.DEVNULL)
        self._frames = FrameSocket(ours)
        greet(self._frames, self._hello)
        return self._frames

    def close(self) -> int:
        """End the process, if there is one. Returns its exit status."""
        process, frames = self._process, self._frames
        self._process = self._frames = None
        if process is None or frames is None:
            return 0
        self.ended += 1
        frames.socket.close()
        process.kill()
        return process.wait()

"""Tries grammars for an OpenVINO engine: `python -m workers.engines.grammars.trial_process FD`.

Whatever a grammar does to the library, it does it here first, under limits of processor time and memory: a process that
exceeds them ends. It keeps the tokenizer, and all grammars that it has compiled, as the engine does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable

import openvino_genai

from workers.engines.children import log_lines, parent
from workers.engines.grammars.stand_in import StandIn, why_not

#: Memory that grammars may take beside what the process has at first.
MEMORY_BYTES = 2 << 30
#: Processor time that a grammar which is compiled may take for its first token, and for each other one.
FIRST_S, EACH_S = 0.15, 0.05
#: Tokens that are drawn to see how long they take.
DRAWN = 8
#: From this much memory on it asks to be started anew.
FULL_BYTES = 512 << 20
#: Others come first, but on a machine that has more to do than it can, an answer in a form must begin, too.
NICENESS = 5


def main() -> None:
    """Try one grammar after the other. The process ends with its parent."""
    log_lines("trial")
    frames = parent()
    asked = frames.receive()
    stand_in = StandIn(openvino_genai.Tokenizer(asked["model_path"]), asked["vocabulary"], asked["eos_id"])
    os.nice(NICENESS)
    at_first = _memory_bytes("VmRSS")
    most = _memory_bytes("VmSize") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(EOFError, OSError):
        while True:
            error, each_s = tried(stand_in, frames.receive()["grammar"], cpu_s=asked["cpu_s"])
            frames.send({"error": error, "each_s": each_s, "full": _memory_bytes("VmRSS") - at_first > FULL_BYTES})


def tried(stand_in: StandIn, grammar: str, *, cpu_s: int) -> tuple[str, float]:
    """What is wrong with a grammar, empty if nothing is; and the processor time that each token takes."""
    spent = time.process_time()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + 1 + cpu_s, hard))
    try:
        stand_in.compile(grammar)
        first_s = _taken(lambda: stand_in.compile(grammar))
        each_s = (_taken(lambda: stand_in.compile(grammar, tokens=DRAWN + 1, seed=1)) - first_s) / DRAWN
    except Exception as error:  # noqa: BLE001 - whatever the library raises for it, it says why
        return f"The grammar can't be compiled: {why_not(error)}", 0.0
    if first_s > FIRST_S or each_s > EACH_S:
        took = f"{first_s:.2f} s for its first token and {each_s:.2f} s for another"
        return f"The grammar takes too much: {took}; allowed are {FIRST_S} s and {EACH_S} s.", each_s
    return "", each_s


def _taken(call: Callable[[], None]) -> float:
    """The processor time of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def _memory_bytes(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()

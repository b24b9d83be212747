"""Tries grammars for an OpenVINO engine: `python -m workers.engines.grammars.trial_process FD`.

Whatever a grammar does to the library, it does it here first, under limits of processor time and memory: a process that
exceeds them ends. It keeps the tokenizer, and all grammars that it has compiled, as the engine does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable

import openvino_genai

from workers.engines.children import log_lines, parent
from workers.engines.grammars.stand_in import StandIn, why_not

#: Memory that grammars may take beside what the process has at first.
MEMORY_BYTES = 2 << 30
#: Processor time that a grammar which is compiled may take for its first token, and for each other one.
FIRST_S, EACH_S = 0.15, 0.1
#: Tokens that are drawn to see how long they take.
DRAWN = 8
#: From this much memory on, or this much address space, it asks to be started anew.
FULL_BYTES, FULL_SPACE = 512 << 20, MEMORY_BYTES // 2
#: Others come first, but on a machine that has more to do than it can, an answer in a form must begin, too.
NICENESS = 5


def main() -> None:
    """Try one grammar after the other. The process ends with its parent."""
    log_lines("trial")
    frames = parent()
    asked = frames.receive()
    stand_in = StandIn(openvino_genai.Tokenizer(asked["model_path"]), asked["vocabulary"], asked["eos_id"])
    os.nice(NICENESS)
    memory, space = _memory_bytes("VmRSS") + FULL_BYTES, _memory_bytes("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (space + MEMORY_BYTES, space + MEMORY_BYTES))
    with contextlib.suppress(EOFError, OSError):
        while True:
            error, each_s = tried(stand_in, frames.receive()["grammar"], cpu_s=asked["cpu_s"])
            full = _memory_bytes("VmRSS") > memory or _memory_bytes("VmSize") > space + FULL_SPACE
            frames.send({"error": error, "each_s": each_s, "full": full})


def tried(stand_in: StandIn, grammar: str, *, cpu_s: int) -> tuple[str, float]:
    """What is wrong with a grammar, empty if nothing is; and the processor time that each token takes."""
    # Not RLIMIT_CPU, which is for the whole life: the kernel counts ticks there, by and by seconds beside this clock.
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # its signal ends the process
    try:
        stand_in.compile(grammar)
        first_s = _taken(lambda: stand_in.compile(grammar))
        each_s = (_taken(lambda: stand_in.compile(grammar, tokens=DRAWN + 1, seed=1)) - first_s) / DRAWN
    except Exception as error:  # noqa: BLE001 - whatever the library raises for it, it says why
        return f"The grammar can't be compiled: {why_not(error)}", 0.0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
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

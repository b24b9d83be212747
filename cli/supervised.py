"""The launcher of each process of `headrace up`: `python -m cli.supervised FOLDER NAME SUPERVISOR COMMAND...`.

It takes the lock of its name, makes sure that it ends when the supervisor does, and becomes the command.

Why both: a supervisor killed by SIGKILL can't end its processes, and unsupervised processes are worse than none. So the
kernel ends them with it, and Redis shuts down cleanly. Only model workers live on: they outlive their parent by design,
and the next agent adopts them. A process that does not end in spite of the signal, or was started without a supervisor,
is found by the lock that it holds: `headrace status` lists it, `down` ends it, and `up` ends it before it starts
another.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from gateway.process.locks import hold_lock, lock_holder

#: How long to wait for the lock: children of the last holder may keep it for a moment.
WAIT_S = 10.0
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    folder, name, supervisor, command = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    # The signal is sent when the thread that started this process ends: the supervisor's main thread.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("the supervisor has ended before this process could begin")
    if hold_lock(folder, name, wait_s=WAIT_S, over_exec=True) is None:
        holder = lock_holder(folder, name)
        sys.exit(f"process {holder.pid if holder else '?'} is {name} of {folder} already, and does not end")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

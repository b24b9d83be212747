"""What each process of `headrace up` begins as: `python -m cli.supervised FOLDER NAME SUPERVISOR COMMAND...`.

It takes the lock of its name, sees to it that it ends when the supervisor does, and becomes the command.

Why both: a supervisor that was killed with -9 can end nobody, and processes that nobody starts again, looks after or
lists are worse than none. So the kernel ends them with it, and Redis in good order. Only model workers live on: they
are meant to outlive whoever started them, and the next agent adopts them. Whatever does not end in spite of the
signal, or was started without a supervisor, is found by its lock, which is held by the process itself: `headrace
status` lists it, `down` ends it, and `up` ends it before it starts another.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from gateway.process.locks import hold_lock, lock_holder

#: The one before has so long to be gone: children of its own may hold its lock for a moment.
WAIT_S = 10.0
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    folder, name, supervisor, command = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    # It is sent when the thread ends that started this process, which is the supervisor's main thread.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("the supervisor has ended before this process could begin")
    if hold_lock(folder, name, wait_s=WAIT_S, over_exec=True) is None:
        holder = lock_holder(folder, name)
        sys.exit(f"process {holder.pid if holder else '?'} is {name} of {folder} already, and does not end")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

"""Checks forms for a process that serves clients: `python -m gateway.grammars.check_process FD`.

Steps are counted (`fuel.py`), so that the same form has the same verdict everywhere. Time and memory of the process are
limited as well: one that exceeds them ends, and with it what it was asked.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import orjson
import psutil

from gateway.errors import InvalidRequest
from gateway.grammars.checks import received
from gateway.grammars.forms import require_form
from gateway.grammars.tools import require_arguments

#: Processor time of one request's forms.
CPU_S = 1.0
#: Memory that they may take beside what the process has at first.
MEMORY_BYTES = 1 << 30
#: From this much memory on, or this much address space, it asks to be started anew.
FULL_BYTES, FULL_SPACE = 256 << 20, MEMORY_BYTES // 2
#: Streams come first.
NICENESS = 10


def main() -> None:
    """Check one request after the other. The process ends with its parent, or when the processor time is up."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    parent.setblocking(True)  # gevent makes sockets that do not block
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    process = psutil.Process()
    memory, space = process.memory_info().rss + FULL_BYTES, process.memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (space + MEMORY_BYTES, space + MEMORY_BYTES))
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            asked = orjson.loads(received(parent))
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)  # its signal ends the process
            errors = flaws(asked)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            taken = process.memory_info()
            full = taken.rss > memory or taken.vms > space + FULL_SPACE
            told = orjson.dumps({"errors": errors, "full": full})
            parent.sendall(len(told).to_bytes(4, "big") + told)


def flaws(request: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """What is wrong with the forms that a request asks for."""
    try:
        require_form(request)
        require_arguments(request)
    except InvalidRequest as error:
        return error.errors
    except MemoryError:
        os._exit(1)  # what is left of this process is in an unknown state
    return {}


if __name__ == "__main__":
    main()

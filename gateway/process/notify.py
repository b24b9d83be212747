"""Tells the service manager that started this process how it is, in the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

READY, STOPPING = "READY=1", "STOPPING=1"


def service_manager() -> Callable[[str], None]:
    """What tells it; nothing happens if no service manager has started this process. Children do not find it."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # a name without a file
        address = f"\0{address[1:]}"

    def tell(state: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address)
            manager.send(state.encode())

    return tell if address else lambda _: None

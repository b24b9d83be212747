"""A TCP proxy before Redis that can swallow the reply to an append after it was applied, and cut the connection; or do
something before a replica hears which jobs it is offered.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

#: In the reply that offers jobs: the line in which each stands.
LINES = (b"interactive:", b"background:", b"first:")


class SwallowingProxy:
    """Listens on loopback, forwards to a unix socket."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._to_swallow = 0
        self._lock = threading.Lock()
        self.swallowed = 0
        self._at_offer: Callable[[], None] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def swallow(self, count: int) -> None:
        """The replies to the next `count` appends are lost."""
        with self._lock:
            self._to_swallow += count

    def at_offer(self, act: Callable[[], None]) -> None:
        """Do something once, when the next jobs have been offered and before the replica hears of it."""
        self._at_offer = act

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._upstream)
            doomed = threading.Event()
            threading.Thread(target=self._replies, args=(server, client, doomed), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    if b"EVALSHA" in data and b'"type":"delta"' in data and self._take():
                        doomed.set()
                    server.sendall(data)

    def _replies(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if doomed.is_set():
                    self.swallowed += 1
                    break
                if (act := self._at_offer) and any(line in data for line in LINES):
                    self._at_offer = None
                    act()
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _take(self) -> bool:
        with self._lock:
            if self._to_swallow == 0:
                return False
            self._to_swallow -= 1
            return True

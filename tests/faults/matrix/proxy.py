"""A TCP proxy on loopback before Redis: late, silent without closing, cut at the n-th command, led elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

#: The longest piece that is forwarded at once.
PIECE = 1 << 16


class Proxy:
    """Forwards to a unix socket. One thread serves all connections, so that it costs the machine little."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        #: Each piece is forwarded so much later.
        self.delay_s = 0.0
        #: The connection over which so many pieces have gone to Redis is cut, before the last one is sent or after it
        #: was applied; 0 = never.
        self.cut_before = self.cut_after = 0
        self.cuts = 0
        self._pieces = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True).start()
        self._flowing = self._await(_set_event())
        self._server = self._await(asyncio.start_server(self._serve, "127.0.0.1", 0))

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stall(self) -> None:
        """Forward nothing from now on, and close nothing: as a network does that drops what it gets."""
        self._call(self._flowing.clear)

    def flow(self) -> None:
        """Forward again what has waited, and all that comes."""
        self._call(self._flowing.set)

    def lead_to(self, upstream: str) -> None:
        """Cut all connections; new ones go to another server."""
        self._upstream = upstream
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        self._call(lambda: [writer.transport.abort() for writer in list(self._writers)])

    def close(self) -> None:
        """Accept nobody any more, cut everything."""
        self._call(self._server.close)
        self.flow()
        self.cut()
        self._await(asyncio.sleep(0.05))
        self._call(self._loop.stop)

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _call(self, function: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(function)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(
                self._forward(reader, up_writer, counted=True), self._forward(up_reader, writer, counted=False)
            )
        finally:
            for one in (writer, up_writer):
                self._writers.discard(one)
                one.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                if counted and self._is_turn(self.cut_before):
                    break
                writer.write(data)
                await writer.drain()
                if counted and self._is_turn(self.cut_after):
                    await asyncio.sleep(0.02)  # it is applied, and the reply is lost
                    break
        writer.transport.abort()

    def _is_turn(self, every: int) -> bool:
        if not every:
            return False
        self._pieces += 1
        if self._pieces < every:
            return False
        self._pieces = 0
        self.cuts += 1
        return True


async def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event

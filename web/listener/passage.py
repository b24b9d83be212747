"""Passes bytes between a connection that was let in and Redis, both ways, until one side ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from gateway.store.connection import KEEPALIVE

#: Bytes that are passed on at once.
_CHUNK = 65_536
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(where: tuple[str, int] | str, *, within_s: float) -> Stream:
    """A connection to Redis, on loopback or a socket. Raises: OSError, TimeoutError."""
    async with asyncio.timeout(within_s):
        if isinstance(where, str):
            return await asyncio.open_unix_connection(where)
        return await asyncio.open_connection(*where)


async def pass_on(one: Stream, other: Stream) -> None:
    """Returns when one side has ended; then both are closed."""
    tasks = [asyncio.create_task(_copy(one[0], other[1])), asyncio.create_task(_copy(other[0], one[1]))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await close(other[1])
        await close(one[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # the other side is gone
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once: who is gone is not waited for."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Detect within 20 s that the other machine is gone."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        found.setsockopt(socket.IPPROTO_TCP, name, value)

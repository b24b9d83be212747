"""The listener's connections: who is let in, who may join, and that neither can take up all of it.

A connection without a certificate may only join. One with a certificate of a machine that is admitted is passed on to
Redis; the TLS library has then checked that certificate, before a byte of the connection is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections import Counter
from collections.abc import Iterator

from gateway.access.certificates import authority, key_digest, listener_certificate
from gateway.access.join_tokens import JoinTokens
from gateway.cluster.join_address import listen_address
from gateway.cluster.joining import Joining, reach
from gateway.errors import InvalidSetting
from gateway.settings import Settings
from gateway.store.clock import Clock
from gateway.store.connection import CONNECT_S, NOT_NOW, connect
from web.listener.exchange import Exchange
from web.listener.passage import Stream, close, keep_alive, pass_on
from web.listener.passage import connect as connect_redis

log = logging.getLogger(__name__)

#: Connections at once: all; those that have shown no certificate yet, or none at all; and those of one address.
MAX_OPEN, MAX_STRANGERS, MAX_OF_ADDRESS = 8_192, 1_024, 128
#: Seconds for the handshake, and for the first bytes of a machine that is let in.
HANDSHAKE_S, FIRST_BYTES_S = 10.0, 60.0
#: How often it is looked who is admitted, and whether the certificate is still good.
LOOK_S, RENEW_S = 2.0, 3600.0
_CHUNK = 65_536


class Listener:
    """Serves on the running event loop."""

    def __init__(self, settings: Settings, joining: Joining) -> None:
        self._settings = settings
        self._joining = joining
        self._where = reach(settings.effective_redis_url)
        with authority(settings) as ca:
            self._ca_pem = ca.pem
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.load_verify_locations(cadata=self._ca_pem.decode())
        self.renew()
        self._admitted: dict[str, str] = {}
        #: How many of each address are not let in yet.
        self._strangers: Counter[str] = Counter()
        #: The tasks of all connections; of those that are let in, with the digest of their key.
        self._open: dict[asyncio.Task[None], str] = {}

    async def start(self) -> asyncio.Server:
        """Listen. Raises: InvalidSetting if the address can't be used."""
        host, port = listen_address(self._settings.listen)
        try:
            return await asyncio.start_server(self._on_connect, host, port)
        except OSError as error:
            raise InvalidSetting(
                f"HEADRACE_LISTEN is {self._settings.listen!r}, which can't be used: {error.strerror or error}."
            ) from error

    def renew(self) -> None:
        """Use the certificate on the disk for new connections, which is renewed if it expires soon."""
        path = listener_certificate(self._settings)
        self._context.load_cert_chain(path, path.with_suffix(".key"))

    async def look(self) -> None:
        """Note who is admitted now, and end the connections of who is not. While Redis is away all stays as it was."""
        self._admitted = await asyncio.to_thread(self._joining.admissions.all)
        for task, digest in self._open.items():
            if digest and digest not in self._admitted:
                task.cancel()

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never raises: what goes wrong on one connection ends that one."""
        task = asyncio.current_task()
        assert task
        address = str((writer.get_extra_info("peername") or ("",))[0])
        strangers = self._strangers
        if len(self._open) >= MAX_OPEN or strangers.total() >= MAX_STRANGERS or strangers[address] >= MAX_OF_ADDRESS:
            await close(writer)
            return
        self._open[task] = ""
        try:
            await self._serve(task, address, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            log.debug("a connection has ended: %r", error)
        except NOT_NOW as error:
            log.warning("a machine was not let in: %s", error)
        except Exception:  # the edge of this connection
            log.exception("a connection")
        finally:
            del self._open[task]
            await close(writer)

    async def _serve(
        self, task: asyncio.Task[None], address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with self._one_more_stranger(address):
            keep_alive(writer)
            await writer.start_tls(self._context, ssl_handshake_timeout=HANDSHAKE_S)
            shown = writer.get_extra_info("ssl_object").getpeercert(True)
            if not shown:
                await Exchange(self._joining, lambda: self._ca_pem).run(reader, writer)
                return
            digest = key_digest(shown)
            if digest not in self._admitted:
                await self.look()  # it may have joined just now
            node = self._admitted.get(digest, "")
            if not node:
                log.info("a machine whose certificate is not admitted any more was turned away")
                return
            async with asyncio.timeout(FIRST_BYTES_S):
                first = await reader.read(_CHUNK)
        self._open[task] = digest
        if not first.startswith(b"*"):  # Redis' protocol begins so
            await Exchange(self._joining, lambda: self._ca_pem, node).run(reader, writer, first)
        elif self._where is not None:
            await self._pass_on(first, (reader, writer))

    async def _pass_on(self, first: bytes, theirs: Stream) -> None:
        assert self._where is not None
        ours = await connect_redis(self._where, within_s=CONNECT_S)
        ours[1].write(first)
        await pass_on(theirs, ours)

    @contextlib.contextmanager
    def _one_more_stranger(self, address: str) -> Iterator[None]:
        self._strangers[address] += 1
        try:
            yield
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]


async def _look_again_and_again(listener: Listener) -> None:
    """Never ends, and never raises."""
    looks = 0
    while True:
        try:
            await listener.look()
            looks += 1
            if looks % int(RENEW_S / LOOK_S) == 0:
                await asyncio.to_thread(listener.renew)
        except NOT_NOW as error:
            log.warning("who is admitted is looked at later: %s", error)
        except Exception:  # the loop must go on
            log.exception("who is admitted could not be looked at")
        await asyncio.sleep(LOOK_S)


async def serve(settings: Settings, joining: Joining) -> None:
    """Serve until a signal. Raises: InvalidSetting."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    listener = Listener(settings, joining)
    server = await listener.start()
    looking = asyncio.create_task(_look_again_and_again(listener))
    log.info("other machines join at %s", settings.listen)
    await ended.wait()
    server.close()
    looking.cancel()


def main(settings: Settings) -> None:
    """Serve until SIGTERM. Raises: InvalidSetting."""
    if not settings.listen:
        raise InvalidSetting("HEADRACE_LISTEN is not set, so there is nowhere to listen.")
    client = connect(settings)
    clock = Clock(client)
    tokens = JoinTokens(client, lambda: clock.now_ms() / 1000)
    asyncio.run(serve(settings, Joining(settings, client, tokens)))

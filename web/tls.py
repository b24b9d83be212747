"""TLS of the REST face: makes connections those of a TLS server, with the certificate as it is now."""

from __future__ import annotations

import os
import socket
import ssl

import gevent

from gateway.access.certificates import ServerTls
from gateway.access.renewal import LiveCertificate
from gateway.errors import BadRequest
from gateway.settings import Settings

#: How long a client may take for the handshake.
HANDSHAKE_S = 10.0
#: What a client of TLS begins with: the type of a record of its handshake (RFC 8446, 5.1).
_HANDSHAKE = b"\x16"


class Secured:
    """The TLS side of a server."""

    def __init__(self, settings: Settings) -> None:
        """Raises: InvalidSetting."""
        self._certificate = LiveCertificate(settings)
        self._of: ServerTls | None = None

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection, after the handshake.

        Raises:
            BadRequest: the client does not speak TLS.
            OSError: there was no handshake.
        """
        with gevent.Timeout(HANDSHAKE_S, TimeoutError("no handshake")):
            first = connection.recv(1, socket.MSG_PEEK)
            if first and first != _HANDSHAKE:
                raise BadRequest("This port speaks HTTPS: let the URL begin with https://.")
            return self._context().wrap_socket(connection, server_side=True)

    def _context(self) -> ssl.SSLContext:
        tls = self._certificate.current()
        if tls is not self._of:
            self._current, self._of = _context(tls), tls
        return self._current


def _context(tls: ServerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    handle = os.memfd_create("tls")  # ssl reads files only, and those on the disk may change meanwhile
    try:
        os.write(handle, tls.certificate + b"\n" + tls.key)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    return context

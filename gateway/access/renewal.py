"""A server's certificate as it lies on the disk now: the next connection gets a renewed one, without a restart."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from gateway.access.certificates import ServerTls, server_tls
from gateway.errors import InvalidSetting
from gateway.settings import Settings

log = logging.getLogger(__name__)

#: How often the files are looked at, at most, and how often a development certificate is renewed where it ends soon.
LOOK_S, RENEW_S = 1.0, 86_400.0


class LiveCertificate:
    """Of one server, for all its threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises: InvalidSetting, as `server_tls`."""
        self._settings = settings
        self._lock = threading.Lock()
        self._look_at = self._renew_at = 0.0
        self._seen: list[tuple[int, int, int]] = []
        self._wait()
        self._tls = server_tls(settings)

    def current(self) -> ServerTls:
        """What to present to a new connection: another object when it has changed. One that is broken, or half
        written, is logged once, and the last good one stays.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOK_S
                if now >= self._renew_at or self._stamps() != self._seen:
                    self._read()
            return self._tls

    def _read(self) -> None:
        self._wait()
        try:
            found = server_tls(self._settings)
            if found != self._tls:
                self._tls = found
                log.info("the certificate of TLS was renewed")
        except InvalidSetting as error:
            log.warning("the certificate of TLS stays as it was: %s", error.message)

    def _wait(self) -> None:
        now = time.monotonic()
        self._seen, self._look_at, self._renew_at = self._stamps(), now + LOOK_S, now + RENEW_S

    def _stamps(self) -> list[tuple[int, int, int]]:
        """What changes when a file is replaced or written."""
        found = []
        for path in self._paths():
            try:
                stat = Path(path).stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return found

    def _paths(self) -> list[str | Path]:
        own = self._settings.tls_dir / "server.pem"
        pair = [self._settings.tls_cert or own, self._settings.tls_key or own.with_suffix(".key")]
        return [*pair, *filter(None, [self._settings.tls_client_ca])]

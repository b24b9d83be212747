"""Counts the errors that a face answers with, where no script of Redis sees them."""

from __future__ import annotations

import re
import threading
from collections import Counter

import redis

from gateway.errors import HeadraceError
from gateway.store import keys
from gateway.store.connection import NOT_NOW, pipeline
from gateway.store.loop import Loop
from gateway.store.metrics import SEPARATOR

#: How often they are added to those of all processes.
FLUSH_S = 2.0
#: What a reason looks like. There are not many.
_WORD = re.compile(r"[a-z_]{1,40}")


class ErrorReplies:
    """Of one process. No reply waits: they are counted here, and sent by a thread, which the first one starts."""

    def __init__(self, client: redis.Redis, face: str) -> None:
        self._redis = client
        self._face = face
        self._found: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._loop: Loop | None = None

    def count(self, error: HeadraceError) -> None:
        """Count a reply."""
        reason = error.reason if _WORD.fullmatch(error.reason) else "other"
        field = SEPARATOR.join(("errors", self._face, str(error.http_status), reason))
        with self._lock:
            self._found[field] += 1
            if self._loop is None:
                self._loop = Loop(self._flush, name="error-replies", over=lambda: self._over.wait(FLUSH_S))
                self._loop.start()

    def _flush(self) -> None:
        """Send what was found, and again if Redis has not confirmed it. Raises: NOT_NOW."""
        with self._lock:
            found, self._found = self._found, Counter()
        try:
            pipeline(self._redis, [("HINCRBY", keys.METRICS, field, number) for field, number in found.items()])
        except NOT_NOW:
            with self._lock:
                self._found += found
            raise

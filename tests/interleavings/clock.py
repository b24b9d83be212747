"""Time and chance, so that a sequence can be played again: both are what the machine says."""

from __future__ import annotations

import itertools
import logging
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Any

import kombu.utils.functional
import pytest
import redis.retry

from gateway.store.connection import NOT_NOW, is_lasting
from gateway.store.scripts import Scripts
from tests.interleavings.wire import CLOCK

#: When time begins.
EPOCH_S = 1_700_000_000


class Clock:
    """Takes the place of the module `time`. Nobody sleeps: time passes when the machine lets it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    def time(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self.now_s

    def sleep(self, seconds: float) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Secrets:
    """Takes the place of the module `secrets`: counts."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Count from 1 again."""
        self._count = itertools.count(1)

    def token_hex(self, size: int) -> str:
        """A number that no other call has got."""
        return f"{next(self._count):0{2 * size}x}"

    def __getattr__(self, name: str) -> Any:
        return getattr(secrets, name)


class ClockedScripts(Scripts):
    """The scripts, with the clock of the tests for Redis' own."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        for name, script in self._scripts.items():
            text = str(script.script).replace("redis.call('TIME')", f"redis.call('HMGET', '{CLOCK}', 's', 'us')")
            self._scripts[name] = client.register_script(text)


class Complaints(logging.Handler):
    """What was raised where only waiting is foreseen: guards log it, and go on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (not isinstance(error, NOT_NOW) or is_lasting(error)):
            self.heard.append(f"{record.getMessage()}: {error!r}")


def ours() -> Iterator[tuple[str, Any]]:
    """All modules of the gateway and of the workers that are loaded."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("gateway.", "workers.")):
            yield name, module


def install(patch: pytest.MonkeyPatch, clock: Clock, numbers: Secrets, complaints: Complaints) -> None:
    """Give all that is loaded this clock and these numbers, and hear what it complains of."""
    for name in ("gateway", "workers", "headrace"):
        logger = logging.getLogger(name)
        patch.setattr(logger, "handlers", [complaints])
        patch.setattr(logger, "propagate", False)
        patch.setattr(logger, "level", logging.ERROR)
        logger.manager._clear_cache()
    patch.setattr("workers.replica.heartbeat.resident_bytes", lambda pids: 0)
    for name, module in ours():
        if getattr(module, "time", None) is time:
            patch.setattr(module, "time", clock)
        if getattr(module, "secrets", None) is secrets and name in ("gateway.jobs.record", "gateway.watching.hub"):
            patch.setattr(module, "secrets", numbers)
    patch.setattr("gateway.jobs.store.Scripts", ClockedScripts)
    for library in (redis.retry, kombu.utils.functional):
        patch.setattr(library, "sleep", clock.sleep)

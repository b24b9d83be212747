"""The circuit breaker of each provider, shared by all processes through Redis.

It opens after so many failures within a window, stays open for a while, then lets one call through at a time (half
open), and closes with the first success. Redis' clock decides.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

from gateway.settings import Settings
from gateway.store import keys
from gateway.store.scripts import Scripts


class CircuitState(StrEnum):
    """Whether calls are made to a provider."""

    CLOSED = "closed"
    #: One at a time, to see whether it is well again.
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True)
class Circuit:
    """How a circuit is, and how long until the next try may be made (0 = now)."""

    state: CircuitState
    retry_after_s: float = 0.0

    @property
    def allows_call(self) -> bool:
        """Whether a call may be made now."""
        return self.state is CircuitState.CLOSED or (self.state is CircuitState.HALF_OPEN and self.retry_after_s == 0)


class Breaker:
    """Asks for leave before a call to a provider, and reports how the call went."""

    def __init__(self, scripts: Scripts, settings: Settings) -> None:
        self._scripts = scripts
        self._limits = (
            settings.breaker_failures,
            int(settings.breaker_window_s * 1000),
            int(settings.breaker_open_s * 1000),
        )

    def allow(self, provider: str) -> Circuit:
        """Ask for leave; see `allows_call`. In a half-open circuit the leave is taken by asking."""
        return self._run("allow", provider)

    def success(self, provider: str) -> None:
        """A call went well."""
        self._run("success", provider)

    def failure(self, provider: str) -> Circuit:
        """A call failed, and the provider is to blame."""
        return self._run("failure", provider)

    def state(self, provider: str) -> Circuit:
        """The circuit as it is now, without asking for leave."""
        return self._run("state", provider)

    def _run(self, what: str, provider: str) -> Circuit:
        state, wait_ms = self._scripts.run("breaker", keys.breaker(provider), what, *self._limits, secrets.token_hex(6))
        return Circuit(CircuitState(state), int(wait_ms) / 1000)

"""The circuit breaker of each provider, shared by all processes through Redis.

It opens after `breaker_failures` within a window, stays open for a while, then lets one call through at a time (half
open), and closes with the first success. Times are by Redis' clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.settings import Settings
from gateway.store import keys
from gateway.store.joined import Command
from gateway.store.scripts import Scripts


class CircuitState(StrEnum):
    """The states of a circuit."""

    CLOSED = "closed"
    #: One call at a time, to see whether the provider works again.
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True)
class Circuit:
    """The state of a circuit, and the seconds until the next call may be made (0 = now)."""

    state: CircuitState
    retry_after_s: float = 0.0

    @property
    def allows_call(self) -> bool:
        """Whether a call may be made now."""
        return self.state is CircuitState.CLOSED or (self.state is CircuitState.HALF_OPEN and self.retry_after_s == 0)


@dataclass(frozen=True)
class Call:
    """A call to a provider that is over: how it ended (`done`, `cancelled` or the reason), and the seconds it took."""

    end: str
    took_s: float


class Breaker:
    """Asked before each call to a provider, and told how the call went."""

    def __init__(self, scripts: Scripts, settings: Settings) -> None:
        self._scripts = scripts
        self._limits = (
            settings.breaker_failures,
            int(settings.breaker_window_s * 1000),
            int(settings.breaker_open_s * 1000),
        )

    def allow(self, provider: str) -> Circuit:
        """Ask before a call; see `allows_call`. In a half-open circuit, asking takes the one free call."""
        return self._run("allow", provider)

    def success(self, provider: str, call: Call) -> None:
        """Report a call that succeeded, or failed for what is not the provider's fault."""
        self._run("success", provider, call)

    def failure(self, provider: str, call: Call) -> Circuit:
        """Report that a call failed, and that the provider is to blame."""
        return self._run("failure", provider, call)

    def cancelled(self, provider: str, call: Call) -> None:
        """Report a call whose end nobody waited for: it is only counted."""
        self._run("cancelled", provider, call)

    def state(self, provider: str) -> Circuit:
        """The present circuit, without asking for a call."""
        return self._run("state", provider)

    def states(self, providers: Sequence[str]) -> dict[str, Circuit]:
        """The same for several, in one round trip."""
        found = self._scripts.execute_commands([self._command("state", provider) for provider in providers])
        return {provider: _circuit(reply) for provider, reply in zip(providers, found, strict=True)}

    def _run(self, what: str, provider: str, call: Call | None = None) -> Circuit:
        return _circuit(self._scripts.execute_commands([self._command(what, provider, call)])[0])

    def _command(self, what: str, provider: str, call: Call | None = None) -> Command:
        counted = (provider, call.end, int(1000 * call.took_s)) if call else ()
        unique = secrets.token_hex(6)
        return self._scripts.call("breaker", keys.breaker(provider), what, *self._limits, unique, *counted)


def _circuit(reply: Any) -> Circuit:
    state, wait_ms = reply
    return Circuit(CircuitState(state), int(wait_ms) / 1000)

"""Connections to a real Redis that break, are refused, or are overtaken by others, at just the command that is wanted.

Knows commands as bytes, and nothing of what they do. One plan at a time, which is over once it has come true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

#: Redis' clock is this hash, which the tests set: what asks for the time gets it instead.
CLOCK = "clock"
_TIME, _CLOCK = b"*1\r\n$4\r\nTIME\r\n", b"*4\r\n$5\r\nHMGET\r\n$5\r\nclock\r\n$1\r\ns\r\n$2\r\nus\r\n"


class Died(BaseException):
    """The process that sends the command is killed there. Nothing in it may catch that."""


@dataclass
class Plan:
    """What happens at the `at`-th command from now on (0 = the next).

    `before`: the connection breaks before it is applied. `after`: once it was applied, so that its reply is lost.
    `dies`: the same, and the process with it. `refused`: the server answers it with `error`. `meanwhile`: `action` is
    done by others before it is applied.
    """

    at: int
    kind: str
    error: str = "OOM command not allowed when used memory > 'maxmemory'."
    action: Callable[[], None] | None = None


class Wire:
    """What all connections have in common."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        #: Nobody reaches Redis.
        self.down = False
        #: Names of processes that don't reach it.
        self.cut: set[str] = set()
        #: Who sends the commands.
        self.acting = ""
        #: What Redis says of itself.
        self.run_id = "0"
        self.commands = 0

    def heal(self) -> None:
        """Everything works again."""
        self.plan, self.down = None, False
        self.cut.clear()

    @property
    def open(self) -> bool:
        """Whether who acts reaches Redis."""
        return not self.down and self.acting not in self.cut


WIRE = Wire()


def split(data: bytes) -> list[bytes]:
    """The commands of a request."""
    commands, start = [], 0
    while start < len(data):
        at = data.index(b"\r\n", start)
        parts, at = int(data[start + 1 : at]), at + 2
        for _ in range(parts):
            end = data.index(b"\r\n", at)
            at = end + 2 + int(data[at + 1 : end]) + 2
        commands.append(data[start:at])
        start = at
    return commands


class WiredConnection(redis.UnixDomainSocketConnection):
    """A connection that does what the wire's plan says."""

    _greeting = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Replies that were read before somebody asked for them.
        self._early: deque[Any] = deque()

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """The greetings of a new connection are no commands of ours."""
        self._greeting = True
        try:
            super().connect_check_health(check_health, retry_socket_connect)
        finally:
            self._greeting = False

    def _connect(self) -> Any:
        if not WIRE.open:
            raise ConnectionRefusedError("nobody listens")
        return super()._connect()

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """What was not asked for is lost."""
        self._early.clear()
        super().disconnect(*args, **kwargs)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send commands, as far as the plan lets them through."""
        if self._greeting:
            super().send_packed_command(command, check_health)
            return
        if not self._sock:
            self.connect_check_health(check_health=False)
        if not WIRE.open:
            self._break()
        data = command if isinstance(command, bytes) else b"".join(command)
        if _TIME in data:
            data = data.replace(_TIME, _CLOCK)
        if WIRE.plan is None:
            super().send_packed_command([data], check_health=False)
        else:
            self._send_as_planned(WIRE.plan, split(data))

    def _send_as_planned(self, plan: Plan, commands: Sequence[bytes]) -> None:
        if plan.at >= len(commands):
            plan.at -= len(commands)
            super().send_packed_command([b"".join(commands)], check_health=False)
            return
        WIRE.plan, rest = None, plan.at
        if plan.kind == "after":
            rest += 1
        self._exchange(commands[:rest])
        if plan.kind == "dies":
            self.disconnect()
            raise Died
        if plan.kind in ("before", "after"):
            self._break()
        if plan.kind == "refused":
            self._early.append(self._parser.parse_error(plan.error))
            rest += 1
        if plan.action:
            plan.action()
        if rest < len(commands):
            self.send_packed_command(list(commands[rest:]))

    def _exchange(self, commands: Sequence[bytes]) -> None:
        """Send commands, and wait until they have been applied."""
        if not commands:
            return
        super().send_packed_command([b"".join(commands)], check_health=False)
        for _ in commands:
            try:
                self._early.append(super().read_response(disconnect_on_error=False))
            except redis.exceptions.ResponseError as error:
                self._early.append(error)

    def _break(self) -> None:
        self.disconnect()
        raise redis.exceptions.ConnectionError("Connection closed by server.")

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The next reply. The server's name for itself is ours."""
        WIRE.commands += not self._greeting
        if self._early and not self._greeting:
            reply = self._early.popleft()
            if isinstance(reply, Exception):
                raise reply
        else:
            reply = super().read_response(*args, **kwargs)
        if isinstance(reply, str) and "\nrun_id:" in reply:
            return f"# Server\r\nrun_id:{WIRE.run_id}\r\n"
        return reply

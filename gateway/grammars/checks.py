"""Has the forms of requests checked by another process (`check_process.py`), and remembers its verdicts.

What a hostile form costs is spent there, at low priority and one at a time: neither a stream of this process nor its
event loop waits for it. Of those who ask, each has one form in the line: others wait for one of theirs, not for all. It
knows of greenlets or threads only that they wait for a lock and a socket.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.errors import InvalidRequest, Unavailable
from gateway.grammars.forms import form_of
from gateway.grammars.tools import guaranteed
from gateway.process.environment import public
from gateway.process.start import module_command

log = logging.getLogger(__name__)

#: Verdicts that are kept: applications send the same forms again and again.
MAX_KEPT = 1024
#: How long a request waits for the checks before it, and for its own.
PATIENCE_S = 15.0
#: Those who ask share so many places in the line.
PLACES = 256
#: The fields that a check reads.
FIELDS = ("response_format", "structured_outputs", "tools", "tool_choice")

#: What is wrong with a request, by its fields.
Errors = Mapping[str, list[str]]


class Checks:
    """The process, started with the first form and again when it has ended."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[bytes, Errors] = OrderedDict()
        self._places = [threading.Lock() for _ in range(PLACES)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        #: How often the process was started.
        self.started = 0

    def require(self, request: Mapping[str, Any], *, asker: str) -> None:
        """That a request's form, and the arguments of its calls, can be guaranteed. `asker` is who has sent it.

        Raises:
            InvalidRequest: naming the field, the place in it, the keyword that can't be done and what is allowed.
            Unavailable: too many wait for their checks.
        """
        form, functions = form_of(request), guaranteed(request)
        if form is None and not functions:
            return
        field = form.field if form else f"tools.{functions[0][0]}.function.parameters"
        read = {name: request[name] for name in FIELDS if request.get(name) is not None}
        try:
            asked = orjson.dumps(read, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
        except TypeError as error:
            raise InvalidRequest.of({field: [str(error)]}) from error
        key = hashlib.sha256(asked).digest()
        errors = self._verdicts.get(key)
        if errors is None:
            with _turn(self._places[hash(asker) % PLACES]), _turn(self._lock):
                errors = self._verdict(key, asked, field)
        if errors:
            raise InvalidRequest.of(errors)

    def _verdict(self, key: bytes, asked: bytes, field: str) -> Errors:
        known = self._verdicts.get(key)
        if known is None:
            known = self._verdicts[key] = self._ask(asked, field)
            while len(self._verdicts) > MAX_KEPT:
                self._verdicts.popitem(last=False)
        return known

    def _ask(self, asked: bytes, field: str) -> Errors:
        while True:
            fresh = self._socket is None
            told: dict[str, Any] | None = None
            try:
                ours = self._socket or self._start()
                ours.sendall(len(asked).to_bytes(4, "big") + asked)
                told = orjson.loads(received(ours))
            except (EOFError, ConnectionError) as error:
                status = self.close()
                log.warning("the process that checks forms has ended with status %s: %r", status, error)
                # It may have been killed while it was idle, or have too little left after others.
                if fresh or status == -signal.SIGVTALRM:
                    return {field: ["It takes more time or memory to check than one request may; make it simpler."]}
            except TimeoutError as error:
                raise Unavailable(
                    "The form of the answer could not be checked in time. Try again.", retry_after_s=2
                ) from error
            else:
                errors: Errors = told["errors"]
                return errors
            finally:  # whoever gives up must not leave its verdict to the next one
                if told is None or told["full"]:
                    self.close()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                module_command("gateway.grammars.check_process", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=public(os.environ),
            )
        ours.settimeout(PATIENCE_S)
        self._socket = ours
        self.started += 1
        return ours

    def close(self) -> int:
        """End the process, if there is one. Returns its exit status."""
        process, ours = self._process, self._socket
        self._process = self._socket = None
        if ours:
            ours.close()
        if process is None:
            return 0
        process.kill()
        return process.wait()


@contextlib.contextmanager
def _turn(lock: threading.Lock) -> Iterator[None]:
    """Raises: Unavailable if it does not come in time."""
    if not lock.acquire(timeout=PATIENCE_S):
        raise Unavailable("Too many forms of answers wait to be checked. Try again.", retry_after_s=2)
    try:
        yield
    finally:
        lock.release()


def received(other: socket.socket) -> bytes:
    """A message: its length in four bytes, and that many. Raises: EOFError."""
    return _exactly(other, int.from_bytes(_exactly(other, 4), "big"))


def _exactly(other: socket.socket, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = other.recv(size - len(pieces))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)

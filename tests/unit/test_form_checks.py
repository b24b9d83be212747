"""Forms are checked by a process of their own, which may end at any time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import pytest

from gateway.errors import InvalidRequest, Unavailable
from gateway.grammars import check_process
from gateway.grammars.checks import Checks
from tests.schemas_300 import HOSTILE


@pytest.fixture
def checks() -> Iterator[Checks]:
    checks = Checks()
    yield checks
    checks.close()


def asked(schema: Any) -> dict[str, Any]:
    return {"structured_outputs": {"json": schema}}


def test_a_form_is_taken_or_refused_by_the_process_and_its_verdict_is_kept(checks: Checks) -> None:
    checks.require(asked({"type": "object"}), asker="me")
    for _ in range(2):
        with pytest.raises(InvalidRequest) as error:
            checks.require(asked({"type": "object", "$dynamicRef": "#a"}), asker="me")
        assert error.value.errors == {"structured_outputs.json": ["$dynamicRef at #: Can't be done."]}
    os.kill(checks._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    checks.require(asked({"type": "object"}), asker="me")
    with pytest.raises(InvalidRequest):
        checks.require(asked({"type": "object", "$dynamicRef": "#a"}), asker="me")
    assert checks.started == 1


def test_a_process_that_has_ended_is_started_again(checks: Checks) -> None:
    checks.require(asked({"type": "object"}), asker="me")
    process = checks._process
    assert process
    process.kill()
    process.wait()
    checks.require(asked({"type": "string"}), asker="me")
    assert checks.started == 2


def test_a_process_that_has_nothing_to_do_waits(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where sockets do not block, as those that gevent makes."""
    pair = socket.socketpair

    def of_gevent() -> tuple[socket.socket, socket.socket]:
        ours, theirs = pair()
        theirs.setblocking(False)
        return ours, theirs

    monkeypatch.setattr(socket, "socketpair", of_gevent)
    checks.require(asked({"type": "object"}), asker="me")
    assert checks._process
    with pytest.raises(subprocess.TimeoutExpired):
        checks._process.wait(0.3)
    checks.require(asked({"type": "string"}), asker="me")
    assert checks.started == 1


class Ending(Checks):
    """Its process ends as soon as it is asked."""

    def _start(self) -> socket.socket:
        ours = super()._start()
        assert self._process
        self._process.kill()
        return ours


def test_what_ends_the_process_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more time or memory"):
        Ending().require(asked({"type": "string"}), asker="me")


def test_who_asks_for_no_form_starts_no_process(checks: Checks) -> None:
    checks.require({"response_format": None, "tools": [{"type": "function", "function": {"name": "f"}}]}, asker="me")
    assert checks.started == 0


def test_who_sends_many_lets_others_pass(checks: Checks) -> None:
    hostile = [asked(HOSTILE["pat3"] | {"title": str(number)}) for number in range(12)]
    with ThreadPoolExecutor(len(hostile)) as threads:
        refused = [threads.submit(checks.require, one, asker="other") for one in hostile]
        wait(refused, return_when=FIRST_COMPLETED)
        checks.require(asked({"type": "string"}), asker="me")
        waiting = sum(not one.done() for one in refused)
    assert waiting > 0
    # On a slow machine some wait for too long.
    assert all(isinstance(one.exception(), InvalidRequest | Unavailable) for one in refused)


def test_flaws_are_named_by_their_fields() -> None:
    function = {"name": "f", "strict": True, "parameters": {"type": "object", "$dynamicRef": "#a"}}
    found = check_process.flaws({"tools": [{"type": "function", "function": function}]})
    assert list(found) == ["tools.0.function.parameters"]
    assert check_process.flaws(asked({"type": "object"})) == {}

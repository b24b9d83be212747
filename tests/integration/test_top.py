"""`headrace top` on a terminal and without one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from gateway.access.api_keys import Credentials
from tests.commands import Command, run
from tests.stack import KEY, PATIENCE_S, Stack, chat, eventually, running
from tests.terminals import on_a_terminal, read_until

SLOTS = 2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("t"), {"fake": {"step_s": 0.1}}, max_batch_size=SLOTS) as stack:
        yield stack


@contextmanager
def loaded(stack: Stack) -> Iterator[list[str]]:
    """Both slots are in use, and three jobs wait. Their ids."""
    streams = [chat(stack, max_tokens=2000) for _ in range(SLOTS)]
    eventually(lambda: all(len(one.ids) > 1 for one in streams), "they run")
    waiting = [chat(stack, max_tokens=2000) for _ in range(3)]
    eventually(lambda: all(one.job_id for one in waiting), "they wait")
    try:
        yield [one.job_id for one in waiting]
    finally:
        with stack.client() as client:
            for one in (*waiting, *streams):
                client.delete(f"/jobs/{one.job_id}")
        eventually(lambda: not any(one.sequences for one in stack.registry.replicas()), "the slots are free again")


def environ(stack: Stack) -> dict[str, str]:
    return {**os.environ, **stack.settings.environ(), "HEADRACE_API_KEY": KEY}


def test_it_tells_what_runs_and_who_waits(stack: Stack) -> None:
    with loaded(stack) as waiting:
        as_json, text = run([Command(("top", "--json")), Command(("top",))], environ(stack))
    found = json.loads(as_json.stdout)
    assert found["ready"] is True
    totals = found["totals"]
    assert (totals["slots"], totals["slots_used"], totals["waiting"]) == (SLOTS, SLOTS, 3)
    assert totals["longest_wait_s"] >= 0
    (replica,) = found["replicas"]
    assert (replica["model"], replica["node"], replica["sequences"], replica["slots"]) == ("fake", "n1", SLOTS, SLOTS)
    assert sorted(job["job_id"] for job in found["jobs"]) == sorted(waiting)
    assert sorted(job["position"] for job in found["jobs"]) == [1, 2, 3]
    (queue,) = found["queues"]
    assert queue["id"] == "fake"
    assert "2 of 2 slots, 3 wait, the longest for" in text.stdout
    assert re.search(r"^n1\.cpu0 +ready", text.stdout, re.MULTILINE)
    assert re.search(r"^fake +n1\.cpu0 +healthy +2/2 ", text.stdout, re.MULTILINE)
    assert "\x1b" not in text.stdout
    assert all(job_id in text.stdout for job_id in waiting)


def test_it_needs_the_scope_deploy_and_sees_the_jobs_that_its_key_may_see(stack: Stack) -> None:
    credentials = Credentials(stack.redis)
    secrets = [credentials.create(scope, (scope,))[1] for scope in ("inference", "deploy")]
    with loaded(stack):
        refused, found = run(
            [Command(("top", "--json"), {"HEADRACE_API_KEY": secret}) for secret in secrets], environ(stack)
        )
    assert (refused.status, "lacks the scope 'deploy'" in refused.stderr) == (1, True)
    data = json.loads(found.stdout)
    assert (data["jobs"], data["totals"]["waiting"]) == ([], 3)


def top(stack: Stack, **more: str) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int]]:
    return on_a_terminal("top", "--interval", "0.3", environ={**environ(stack), "TERM": "xterm", **more})


@pytest.mark.parametrize("end", ["q", "interrupt"])
def test_a_terminal_is_drawn_on_until_q_or_ctrl_c(stack: Stack, end: str) -> None:
    with top(stack) as (process, terminal):
        assert "0 of 2 slots" in read_until(terminal, "q quits")
        with loaded(stack) as waiting:
            read_until(terminal, waiting[0])
            if end == "q":
                os.write(terminal, b"q")
            else:
                process.send_signal(signal.SIGINT)
            read_until(terminal, "\x1b[?1049l")  # the terminal is as it was before
            assert process.wait(PATIENCE_S) == 0


def test_it_says_that_the_server_is_away_and_goes_on(stack: Stack) -> None:
    with top(stack) as (process, terminal):
        read_until(terminal, "q quits")
        stack.kill("web")
        read_until(terminal, "does not answer")
        stack.start("web")
        eventually(stack._ready, "it is back")
        with loaded(stack) as waiting:
            read_until(terminal, waiting[0])
        os.write(terminal, b"q")
        assert process.wait(PATIENCE_S) == 0


def test_a_terminal_that_can_not_be_drawn_on_is_named(stack: Stack) -> None:
    with top(stack, TERM="none-such") as (process, terminal):
        read_until(terminal, "The terminal (TERM=none-such) can't be drawn on; use --once.")
        assert process.wait(PATIENCE_S) == 1

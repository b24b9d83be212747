"""Loops that others depend on go on whatever happens, or end with their process."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
import redis

from gateway.store.loop import LOST_A_LOOP, Loop, guarded, repeat


def test_a_step_that_raises_is_followed_by_the_next(caplog: pytest.LogCaptureFixture) -> None:
    errors = iter([ValueError("odd"), redis.exceptions.OutOfMemoryError("full"), None])
    done: list[int] = []

    def step() -> None:
        if error := next(errors):
            raise error
        done.append(1)

    repeat(step, name="loop", over=lambda: bool(done))
    assert done == [1]
    ours = [record.levelno for record in caplog.records if record.thread == threading.get_ident()]
    assert ours == [logging.ERROR, logging.WARNING], "whatever threads that other tests left have to say"


def test_one_item_does_not_keep_the_others_from_their_turn() -> None:
    done = []
    for item in range(3):
        with guarded(f"item {item}"):
            done.append(item)
            raise redis.exceptions.ResponseError("WRONGTYPE of this one")
    assert done == [0, 1, 2]


def test_what_is_a_matter_of_waiting_ends_the_round() -> None:
    with pytest.raises(redis.exceptions.ConnectionError), guarded("item"):
        raise redis.exceptions.ConnectionError("gone")


def test_a_loop_that_ends_takes_its_process_with_it() -> None:
    code = """
import time
from gateway.store.loop import Loop
def step(): raise KeyboardInterrupt
Loop(step, name="x", over=lambda: False).start()
time.sleep(20)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15, check=False)
    assert ended.returncode == LOST_A_LOOP
    assert b"loop x has ended" in ended.stderr


def test_a_loop_that_is_over_ends_in_peace() -> None:
    loop = Loop(lambda: None, name="x", over=lambda: True)
    loop.start()
    loop.join(5)
    assert not loop.is_alive()

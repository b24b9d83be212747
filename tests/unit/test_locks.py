"""One at a time has a lock, also while others remove its file, and whoever has it is seen."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process.locks import drop_lock, hold_lock, last_holder, lock_holder

THREADS, ROUNDS = 6, 150


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_lock_says_who_has_it_and_who_had_it_last(tmp_path: Path) -> None:
    handle = hold_lock(tmp_path, "one", "one:1")
    assert handle is not None
    assert hold_lock(tmp_path, "one", "one:2", wait_s=0.0) is None
    drop_lock(tmp_path, "one")
    holder = lock_holder(tmp_path, "one")
    assert holder is not None, "a lock that is held stays"
    assert (holder.pid, holder.incarnation) == (os.getpid(), "one:1")
    os.close(handle)
    assert (lock_holder(tmp_path, "one"), last_holder(tmp_path, "one")) == (None, holder)
    drop_lock(tmp_path, "one")
    assert last_holder(tmp_path, "one") is None


@pytest.mark.usefixtures("eager_threads")
def test_nobody_has_a_lock_whose_file_was_removed_meanwhile(tmp_path: Path) -> None:
    inside, wrong = threading.Semaphore(), []

    def take_turns() -> None:
        for _ in range(ROUNDS):
            handle = hold_lock(tmp_path, "one", "x", wait_s=60.0)
            assert handle is not None
            if not inside.acquire(blocking=False):
                wrong.append("two have it")
            else:
                if lock_holder(tmp_path, "one") is None:
                    wrong.append("whoever has it is not seen")
                inside.release()
            os.close(handle)
            drop_lock(tmp_path, "one")

    threads = [threading.Thread(target=take_turns) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

"""What a gRPC call leaves to threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from web.rpc import runtime as face
from web.rpc.call import Call
from web.rpc.runtime import RpcRuntime


def test_what_was_deferred_is_done_though_the_client_leaves_while_it_queues() -> None:
    """Else a watcher would stay, and keep its job running."""
    done: list[str] = []
    gate = threading.Event()

    async def scenario(threads: ThreadPoolExecutor) -> None:
        threads.submit(gate.wait)
        face: Any = SimpleNamespace(gateway=None, readers=threads, closing=False)
        context: Any = SimpleNamespace(invocation_metadata=tuple, time_remaining=lambda: None)

        async def handler() -> None:
            call = Call(face, context)
            call.defer(lambda: done.append("closed"))
            await call.close()

        task = asyncio.create_task(handler())
        await asyncio.sleep(0)  # it has begun
        task.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(asyncio.wait_for(scenario(threads), 10))
    assert done == ["closed"]


@dataclass(frozen=True)
class Stalled:
    """A call whose client takes nothing."""

    request_id: str
    abort_stalled: Callable[[], None]
    sending_since: float = 0.0
    task: asyncio.Task[Any] | None = None

    def wake(self) -> None:
        """Nobody waits for its job."""


def test_a_call_that_can_not_be_cut_off_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a behaviour that can't tidy up."""
    monkeypatch.setattr(face, "SEND_TIMEOUT_S", 0.06)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("a mistake of ours")

    async def scenario() -> None:
        settings = SimpleNamespace(grpc_max_calls=2, grpc_key_max_calls=0, idle_s=60.0)
        gateway: Any = SimpleNamespace(settings=settings, redis=None, hub=SimpleNamespace(on_news=None))
        found, cut = RpcRuntime(gateway), asyncio.Event()
        found._calls |= {Stalled("broken", fail), Stalled("stalled", cut.set)}
        for _ in range(2):
            await cut.wait()
            cut.clear()
        context: Any = SimpleNamespace(invocation_metadata=tuple, time_remaining=lambda: None)
        call = Call(found, context)
        for function in (fail, lambda: done.append("tidied up")):
            call.defer(function)
        await call.close()
        found._cutting.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert done == ["tidied up"]

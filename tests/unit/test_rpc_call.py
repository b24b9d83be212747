"""What a gRPC call leaves to threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from web.rpc.call import Call


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

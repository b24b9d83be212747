"""A rank of a tensor-parallel engine other than 0: `python -m workers.engines.pytorch.rank_process FD`.

It holds its share of the weights, and computes what rank 0 schedules (`workers/engines/pytorch/ranks.py`).
"""

from __future__ import annotations

import logging
import os
import threading
from datetime import timedelta
from queue import SimpleQueue

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from workers.engines.base import EngineConfig
from workers.engines.children import log_lines, parent
from workers.engines.failures import to_payload
from workers.engines.frames import FrameSocket
from workers.engines.pytorch.loading import load_causal_lm, start_manager
from workers.engines.pytorch.ranks import MEET_S, join

log = logging.getLogger("headrace.engine")


class _AlwaysSet(threading.Event):
    """Lets an idle rank wait for rank 0 itself: the manager's loop would sleep up to 0.1 s between looks."""

    def wait(self, timeout: float | None = None) -> bool:
        """Never waits."""
        return True


def main() -> None:
    """Load, then follow rank 0. The process ends with it."""
    frames = parent()
    asked = frames.receive()
    config, rank = EngineConfig(**asked["config"]), int(asked["rank"])
    log_lines(f"rank {rank}")
    threading.Thread(target=_end_with, args=(frames,), daemon=True).start()
    try:
        store = TCPStore("127.0.0.1", asked["port"], timeout=timedelta(seconds=MEET_S))
        join(config, rank, store)
        manager = start_manager(load_causal_lm(config, rank), config, SimpleQueue(), wake_up=_AlwaysSet())
    except Exception as error:  # the process' edge: say why, then end
        log.exception("rank failed to load")
        frames.send(to_payload(error))
        os._exit(1)
    manager._generation_thread.join()
    os._exit(1)


def _end_with(frames: FrameSocket) -> None:
    try:
        frames.receive()
    finally:
        os._exit(0)  # whatever came, or did not


if __name__ == "__main__":
    main()

"""Tensor parallelism: the processes that share one model. The engine process is rank 0 and starts the others.

They meet in a store on the loopback device, and compute together through gloo (CPU) or NCCL (CUDA). Before each step
transformers' manager tells all ranks which sequences join and leave, so that all compute the same batch. They live and
die together: a rank ends when its socket to rank 0 closes, and rank 0 when a rank has ended.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from workers.engines.base import EngineConfig
from workers.engines.children import greet, spawn
from workers.engines.failures import ChildEnded, LoadFailed, failure_from
from workers.engines.frames import FrameSocket
from workers.engines.pytorch.loading import device_of

log = logging.getLogger("headrace.engine")

T = TypeVar("T")
#: How long ranks wait for each other while they load.
MEET_S = 600.0
#: How long rank 0 waits, after an error of its own, for the news that a rank has died and is the cause.
BLAME_S = 2.0


class RankGroup:
    """Rank 0's side: starts the other ranks, watches them, and ends this process when one of them has ended."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        #: What ended first: a rank, with its reason, while the model was loaded.
        self._failed: Future[LoadFailed] = Future()
        self._ready = False
        self._lock = threading.Lock()
        listener = socket.create_server(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        # A store that opens its own socket would listen on every address of this machine.
        self._store = TCPStore(
            "127.0.0.1",
            port,
            is_master=True,
            timeout=timedelta(seconds=MEET_S),
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, config.tensor_parallel_size):
            process, frames = _start(config, rank, port)
            self._processes.append(process)
            threading.Thread(target=self._watch, args=(rank, process, frames), daemon=True).start()

    def run(self, load: Callable[[], T]) -> T:
        """Meet the other ranks and load this one's share with them.

        Raises:
            LoadFailed: a rank has failed or died. What `load` raises, unless that was the cause.
        """
        loaded: Future[T] = Future()
        threading.Thread(target=self._load, args=(load, loaded), daemon=True).start()
        either: list[Future[Any]] = [loaded, self._failed]
        wait(either, return_when=FIRST_COMPLETED)
        error = loaded.exception() if loaded.done() else None
        # An error here is often only that another rank has gone away, which is known in a moment.
        if error is not None and not isinstance(error, LoadFailed):
            wait([self._failed], timeout=BLAME_S)
        with self._lock:
            if self._failed.done():
                raise self._failed.result() from error
            self._ready = True
        return loaded.result()

    def detach(self) -> None:
        """From now on ranks may end, and this process stays."""
        with self._lock:
            self._ready = False

    def close(self) -> None:
        """End the other ranks and leave the group."""
        self.detach()
        for process in self._processes:
            process.kill()
            process.wait()
        distributed.destroy_process_group()

    def _load(self, load: Callable[[], T], loaded: Future[T]) -> None:
        try:
            join(self._config, 0, self._store)
            loaded.set_result(load())
        except Exception as error:  # noqa: BLE001 - the edge of the thread: `run` raises it
            loaded.set_exception(error)

    def _watch(self, rank: int, process: subprocess.Popen[bytes], frames: FrameSocket) -> None:
        try:
            with frames.socket:
                failure = failure_from(frames.receive())
            failure = LoadFailed(failure.reason, f"rank {rank}: {failure}")
        except Exception as error:  # noqa: BLE001 - it has said nothing that can be understood, and has ended or is to
            log.warning("rank %d says no more: %r", rank, error)
            process.kill()
            failure = ChildEnded(f"rank {rank}", process.wait())
        with self._lock:
            if self._ready:
                log.error("rank %d has ended, and the engine ends with it", rank)
                os._exit(1)
            if not self._failed.done():
                self._failed.set_result(failure)


def join(config: EngineConfig, rank: int, store: Store) -> None:
    """Meet the other ranks, in each of them. Everything stays on the loopback device."""
    device = device_of(config, rank)
    # Read by gloo, NCCL and transformers, which offer no other way.
    os.environ.update(
        GLOO_SOCKET_IFNAME="lo",
        NCCL_SOCKET_IFNAME="lo",
        NCCL_GRAPH_MIXING_SUPPORT="0",
        LOCAL_RANK=str(device.index or 0),
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=config.tensor_parallel_size,
        timeout=timedelta(seconds=MEET_S),
        device_id=device if device.type == "cuda" else None,
    )


def _start(config: EngineConfig, rank: int, port: int) -> tuple[subprocess.Popen[bytes], FrameSocket]:
    process, ours = spawn("workers.engines.pytorch.rank_process")
    frames = FrameSocket(ours)
    greet(frames, {"config": asdict(config), "rank": rank, "port": port})
    return process, frames

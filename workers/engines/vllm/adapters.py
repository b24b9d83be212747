"""Adapters (LoRA) that one engine serves beside its model: each is loaded for the first sequence that names it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest

from workers.engines.base import EngineRequestError

log = logging.getLogger("headrace.engine")

#: What vLLM makes room for: ranks, adapters in one batch, and adapters in memory beside them.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
AT_ONCE, KEPT = 8, 32


def lora_args(folders: Sequence[str], *, on_cpu: bool) -> dict[str, Any]:
    """Of vLLM's `EngineArgs`: room for all of these."""
    if not folders:
        return {}
    most = max(map(_rank, folders))
    rank = next((rank for rank in RANKS if rank >= most), RANKS[-1])
    # On a CPU vLLM computes what has no adapter with that of the last place, which so must stay empty.
    places = len(folders) + 1 if on_cpu else min(len(folders), AT_ONCE)
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": places, "max_cpu_loras": max(places, KEPT)}


class Adapters:
    """Those of one engine, by their folders."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._known: dict[str, LoRARequest] = {}
        made, room = engine.vllm_config, engine.vllm_config.lora_config
        #: So many, and then no other: see `lora_args`.
        self._most = 0 if room is None else room.max_loras - 1 if made.device_config.device_type == "cpu" else None

    def of(self, folder: str) -> LoRARequest | None:
        """What vLLM is told of an adapter; None for an empty folder. Raises: EngineRequestError."""
        if not folder or folder in self._known:
            return self._known.get(folder)
        if self._most is not None and len(self._known) >= self._most:
            raise EngineRequestError(f"This replica has room for {self._most} adapters: deploy its model again.")
        request = LoRARequest(folder, len(self._known) + 1, folder)
        try:
            self._engine.add_lora(request)
        except Exception as error:  # in vLLM's processes: whatever is wrong with the files
            log.exception("the adapter %s can't be used", folder)
            raise EngineRequestError(f"The adapter {Path(folder).name} can't be used: {error!s:.300}") from error
        self._known[folder] = request
        return request


def _rank(folder: str) -> int:
    """That of an adapter; 0 if its files don't say it: whoever names it will be told."""
    try:
        return int(json.loads((Path(folder) / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("the adapter %s says no rank: %r", folder, error)
        return 0

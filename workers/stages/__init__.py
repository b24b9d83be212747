"""The stages of a replica's startup, one file each; `gateway/cluster/startup.py` has their order and who runs them."""

from __future__ import annotations

import importlib
from typing import cast

from gateway.cluster.startup import STAGES
from workers.stages.base import Stage, Startup


def run_stages(process: str, up: Startup) -> None:
    """Run the stages of one process, in order. If one fails, it and those before it are undone.

    Raises: what the stage raises.
    """
    begun: list[Stage] = []
    try:
        for name in (name for name, where in STAGES.items() if where == process):
            stage = cast(Stage, importlib.import_module(f"workers.stages.{name}"))
            up.begin(name)
            begun.append(stage)
            stage.run(up)
            up.finish()
    except BaseException:
        up.fail()
        for stage in reversed(begun):
            stage.undo(up)
        raise

"""Engines: each runs models in a process of its own. No heavy library is imported before one is loaded.

This room imports nothing else of Headrace: its processes run under any interpreter that has the engine's library.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from workers.engines.base import Engine, EngineConfig, Report, no_report
from workers.engines.failures import LoadFailed, Reason


def load_engine(implementation: str, config: EngineConfig, report: Report = no_report) -> Engine:
    """Load the weights, in this process, with a class that is named `module:Class`, and `report` how far it is.

    Raises:
        LoadFailed: the files are not there. Engines raise it for other reasons, and their libraries' errors.
    """
    if config.model_path and not Path(config.model_path).exists():
        raise LoadFailed(Reason.MISSING_FILE, f"There is nothing at {config.model_path}.")
    module, _, name = implementation.partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(config, report))

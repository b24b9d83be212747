"""Engines: each computes models in a process of its own. Nothing heavy is imported until one is loaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.engines.base import Engine, EngineConfig, Report, no_report


def load_engine(implementation: str, config: EngineConfig, report: Report = no_report) -> Engine:
    """Load the weights, in this process, with a class that is named `module:Class`, and `report` how far it is.

    Raises:
        DeploymentFailed: the files are not there. Engines raise it for other reasons, and their libraries' errors.
    """
    if config.model_path and not Path(config.model_path).exists():
        raise DeploymentFailed(FailureReason.MISSING_FILE, f"There is nothing at {config.model_path}.")
    module, _, name = implementation.partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(config, report))

"""The registry of engines: a name and where its class is. Nothing heavy is imported until an engine is loaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.engines.base import Engine, EngineConfig, Report, no_report

ENGINES = {
    "openvino": "workers.engines.openvino:OpenVinoEngine",
    "transformers": "workers.engines.pytorch.transformers:TransformersEngine",
    "embedding": "workers.engines.pytorch.encoder:EmbeddingEngine",
    "fake": "workers.engines.fake:FakeEngine",
}


def load_engine(config: EngineConfig, report: Report = no_report) -> Engine:
    """Load the weights, in this process, and `report` how far it is.

    Raises:
        ValueError: no engine of that name is registered.
        DeploymentFailed: the files are not there. Engines raise it for other reasons, and their libraries' errors.
    """
    if config.engine not in ENGINES:
        raise ValueError(f"There is no engine {config.engine!r}; supported: {', '.join(sorted(ENGINES))}.")
    if config.model_path and not Path(config.model_path).exists():
        raise DeploymentFailed(FailureReason.MISSING_FILE, f"There is nothing at {config.model_path}.")
    module, _, name = ENGINES[config.engine].partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(config, report))

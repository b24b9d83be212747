"""The registry of engines: a name and where its class is. Nothing heavy is imported until an engine is loaded."""

from __future__ import annotations

import importlib
from typing import cast

from workers.engines.base import Engine, EngineConfig

ENGINES = {
    "openvino": "workers.engines.openvino:OpenVinoEngine",
    "embedding": "workers.engines.embedding:EmbeddingEngine",
    "fake": "workers.engines.fake:FakeEngine",
}


def load_engine(config: EngineConfig) -> Engine:
    """Load the weights, in this process. Raises: ValueError for a name that is not registered."""
    if config.engine not in ENGINES:
        raise ValueError(f"There is no engine {config.engine!r}; supported: {', '.join(sorted(ENGINES))}.")
    module, _, name = ENGINES[config.engine].partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(config))

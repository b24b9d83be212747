"""Models of the catalog as engines, without an agent that wants them."""

from __future__ import annotations

import os

from gateway.cluster.desired import ReplicaSpec
from gateway.models.catalog import load_catalog
from gateway.models.devices import DeviceName
from gateway.models.engines import spec_of
from gateway.settings import Settings
from workers.engines import load_engine
from workers.engines.base import Engine, EngineConfig
from workers.replica.__main__ import engine_config

#: Where engines compute whose tests run elsewhere, too (`make gpu`), and as their libraries call it.
PLACE = os.environ.get("HEADRACE_TEST_DEVICE", "cpu0")
DEVICE = DeviceName.parse(PLACE).in_libraries
#: Options with which OpenVINO computes in 32 bits, keys and values and whatever is quantized on the way, too: with its
#: defaults the last bits depend on what else is in the batch, and may turn an answer.
IN_32_BITS = {"properties": {"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_PRECISION_HINT": "f32"}}


def config_of(model_id: str, settings: Settings) -> EngineConfig:
    """What an engine process would be told of a model that is deployed without options on the settings' device."""
    model = load_catalog(settings).get(model_id)
    spec, path = ReplicaSpec(model.id, model.id, "test", settings.device), str(model.path() or "")
    cache_tokens = model.options.get("cache_tokens") or 2 * model.context_length
    return engine_config(model, settings, spec, path, kv_capacity_tokens=int(str(cache_tokens)))


def loaded_engine(config: EngineConfig) -> Engine:
    """An engine in this process."""
    return load_engine(spec_of(config.engine).implementation, config)

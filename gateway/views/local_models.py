"""What is resident on the devices of this gateway, in the document's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.access.api_keys import KeyRecord
from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Health, Replica
from gateway.inference.service import Inference
from gateway.jobs.statistics import Stats, read_stats
from gateway.models.entry import Model
from schemas.deployments import DEFAULTS


def local_models(inference: Inference, key: KeyRecord) -> list[dict[str, Any]]:
    """One entry for each model that has a replica and that the key may use; `deployment` is the oldest healthy one,
    `replicas` has them all.
    """
    inference.router.everything()
    own = [model for model in inference.catalog.seen_by(key) if not model.base]
    served = [(model, found) for model in own if (found := inference.replicas(model))]
    store = inference.store
    stats = read_stats(store.redis, [model.id for model, _ in served], now_ms=store.clock.estimated_now_ms())
    return [_entry(inference, model, found, stats[model.id]) for model, found in served]


def _entry(inference: Inference, model: Model, replicas: Sequence[Replica], stats: Stats) -> dict[str, Any]:
    specs = {spec.replica_id: spec for spec in inference.router.specs(model)}
    ordered = sorted(replicas, key=lambda replica: (replica.health != Health.HEALTHY, replica.loaded_at))
    return {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "status": inference.model_status(model),
        "deployment": _deployment(model, ordered[0], specs),
        "performance": {
            "tokens_per_second": round(sum(replica.tokens_per_second for replica in replicas), 1),
            "avg_latency_ms": stats.average_latency_ms,
            "max_batch_size": ordered[0].max_batch_size,
        },
        "replicas": [_deployment(model, replica, specs) for replica in ordered],
    }


def _deployment(model: Model, replica: Replica, specs: Mapping[str, ReplicaSpec]) -> dict[str, Any]:
    spec = specs.get(replica.replica_id)
    return {
        "node_id": replica.node,
        "hardware": replica.hardware,
        "memory_usage": f"{replica.memory_bytes / 1e9:.3g}GB",
        "quantization": quantization(model, replica),
        "loaded_at": replica.loaded_at,
        "health": replica.health,
        "status": replica.status,
        "replica_id": replica.replica_id,
        "deployment_id": replica.deployment_id or None,
        "device": replica.device,
        "engine": replica.engine,
        "memory_bytes": replica.memory_bytes,
        "planned_bytes": replica.planned_bytes or None,
        "sequences": replica.sequences,
        "kv_used_tokens": replica.kv_used_tokens,
        "engine_steps": replica.steps,
        "tokens_per_second": replica.tokens_per_second,
        "effective_config": dict(replica.effective),
        "deployment_config": _asked(spec) if spec else None,
    }


def _asked(spec: ReplicaSpec) -> dict[str, Any]:
    """The options with which another deployment would have the same. What is 0 was left open."""
    found = {name: getattr(spec, name) for name in DEFAULTS}
    return {name: value for name, value in found.items() if value or isinstance(value, bool)}


def quantization(model: Model, replica: Replica) -> str:
    """The quantization that was deployed; for `none` that of the source, as the catalog has it."""
    made = replica.quantization if replica.quantization != "none" else ""
    return made or model.quantization or "none"

"""Models as clients see them, in the document's words: catalog entries and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.access.api_keys import KeyRecord
from gateway.cluster.registry import Replica, ReplicaStatus
from gateway.inference.service import Inference
from gateway.jobs.statistics import WINDOW_S, read_stats
from gateway.models.catalog_store import Added
from gateway.models.entry import Model
from gateway.models.footprint import UNSTATED_CONTEXT
from gateway.views.local_models import quantization
from schemas.base.times import iso


class Models:
    """Lists and describes."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._catalog = inference.catalog

    def list(self, key: KeyRecord, *, requested: str = "") -> list[dict[str, Any]]:
        """Every model of the catalog that the key may use, in the catalog's order; with `requested`, for keys that may
        deploy, those that were added by this name.
        """
        found = list(self._catalog.seen_by(key))
        if requested:
            named = [one for one in found if (added := self._added(one)) and added.requested == requested]
            found = named if key.allows("deploy") else []
        self._inference.router.everything()
        return [self.entry(model) for model in found]

    def entry(self, model: Model) -> dict[str, Any]:
        """A model's entry in the list."""
        entry: dict[str, Any] = {
            "id": model.id,
            "name": model.name,
            "description": model.description,
            "version": model.version,
            "capabilities": list(model.capabilities),
            "provider": model.provider,
            "status": self._inference.model_status(model),
        }
        if model.local:
            entry["deployment"] = _deployment(model, self._inference.replicas(model))
        return entry

    def detail(self, model_id: str, key: KeyRecord) -> dict[str, Any]:
        """One model, with parameter ranges, price and statistics. Raises: ModelNotFound, PermissionDenied."""
        model = self._catalog.get_for(key, model_id)
        return {
            **self.entry(model),
            "parameters": self._parameters(model),
            "pricing": asdict(model.pricing),
            "stats": self._stats(model),
            **({"entry": self._entry(model)} if key.allows("deploy") else {}),
        }

    def _entry(self, model: Model) -> dict[str, Any]:
        """What was decided about a model, and where, for those who deploy it."""
        added = self._added(model)
        return {
            "origin": self._catalog.sources.origin(model.id),
            "source": model.source,
            "engine": model.engine,
            "quantization": model.quantization or "none",
            "tool_format": model.tool_format,
            "reasoning_format": model.reasoning_format,
            "options": dict(model.options),
            "facts": dict(added.facts) if added else {},
            "requested": added.requested if added else "",
            "added_at": iso(added.added_at) if added and added.added_at else None,
        }

    def _added(self, model: Model) -> Added | None:
        return self._catalog.sources.added(model.id)

    def _parameters(self, model: Model) -> dict[str, Any]:
        """The parameters that a request may set, for the model's capabilities."""
        context_length = model.context_length or self._own_context(model)
        ranges = model.ranges if {"chat", "completion"} & set(model.capabilities) else {}
        return {
            "max_tokens": model.max_tokens or context_length,
            "context_length": context_length,
            **{name: asdict(limits) for name, limits in ranges.items()},
        }

    def _own_context(self, model: Model) -> int:
        """The context of a model whose entry leaves it to the files: that of its replicas, else of the files.

        0 while nobody has read them, and of remote models.
        """
        if not model.local:
            return 0
        router = self._inference.router
        served = [spec.context_length for spec in router.specs(model)]
        known = None if any(served) else router.footprints.find(router.registry.devices(), model.id)
        return max(served, default=0) or (known.context_length or UNSTATED_CONTEXT if known else 0)

    def _stats(self, model: Model) -> dict[str, Any]:
        """Statistics. Without requests in the window, availability is 1 if one would be served now, else 0."""
        store = self._inference.store
        stats = read_stats(store.redis, [model.id], now_ms=store.clock.estimated_now_ms())[model.id]
        served = self._inference.router.serves(model)
        return {
            "average_latency_ms": stats.average_latency_ms,
            "availability": float(served) if stats.availability is None else stats.availability,
            "requests": stats.answered + stats.failed,
            "window_s": WINDOW_S,
        }


def _deployment(model: Model, replicas: Sequence[Replica]) -> dict[str, str]:
    """Where a local model runs: the hardware of its first active replica, if any."""
    first = next(iter(sorted(replicas, key=lambda replica: replica.status != ReplicaStatus.ACTIVE)), None)
    return {
        "type": model.provider,
        "hardware": first.hardware if first else "none",
        "quantization": quantization(model, first) if first else model.quantization or "none",
    }

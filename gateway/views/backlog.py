"""The queues of the models as operators and autoscalers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.cluster.registry import ReplicaStatus
from gateway.inference.backlog import Backlog, backlogs
from gateway.inference.service import Inference
from gateway.models.catalog import Model


def queues(inference: Inference, model_id: str | None = None) -> list[dict[str, Any]]:
    """Those of all models, or of one: an adapter's requests are in the queue of its base. Raises: ModelNotFound."""
    one = None if model_id is None else inference.catalog.get(model_id)
    models: Sequence[Model] = [one] if one else [model for model in inference.catalog if not model.base]
    found = backlogs(inference.store, [model.id for model in models])
    return [_shown(inference, model, found[model.id]) for model in models]


def _shown(inference: Inference, model: Model, backlog: Backlog) -> dict[str, Any]:
    replicas = [one for one in inference.router.replicas(model) if one.status == ReplicaStatus.ACTIVE]
    running = sum(replica.held + replica.background_held for replica in replicas)
    eta_s, background_eta_s = (
        inference.waiting.newcomer_s(model.id, backlog, background=background) for background in (False, True)
    )
    return {
        "id": model.id,
        "interactive": {**asdict(backlog.interactive), "eta_s": eta_s},
        "background": {**asdict(backlog.background), "eta_s": background_eta_s},
        "replicas": len(replicas),
        "slots": sum(replica.max_batch_size for replica in replicas),
        "running": running,
        "demand": running + backlog.interactive.waiting,
    }

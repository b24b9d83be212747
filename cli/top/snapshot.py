"""What `headrace top` shows, out of the HTTP API: one moment of an installation. Knows no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from cli.client import raise_for_error

#: Jobs at the front of the queues that are looked at.
JOBS = 8

Fields = dict[str, Any]


def snapshot(client: httpx.Client) -> Fields:
    """Look at everything. Raises: ServerError, httpx.TransportError."""
    ready = client.get("/health/ready")
    health = _data(ready, 200, 503)
    nodes, models, queues = (
        _data(client.get(path))[name]
        for path, name in (("/nodes", "nodes"), ("/models/local", "models"), ("/queue", "models"))
    )
    replicas = [_replica(model, one) for model in models for one in model["replicas"]]
    queues = [one for one in queues if one["replicas"] or one["running"] or _waiting(one)]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "url": str(client.base_url).rstrip("/"),
        "ready": ready.is_success,
        "redis": health["redis"],
        "keeper": health["keeper"],
        "totals": {
            "tokens_per_second": round(sum(one["tokens_per_second"] for one in replicas), 1),
            "slots": sum(one["slots"] for one in queues),
            "slots_used": sum(one["running"] for one in queues),
            "waiting": sum(map(_waiting, queues)),
            "longest_wait_s": max(map(_wait_s, queues), default=0.0),
        },
        "nodes": nodes,
        "replicas": replicas,
        "queues": queues,
        "jobs": list(_front(client, queues)),
    }


def _replica(model: Mapping[str, Any], one: Mapping[str, Any]) -> Fields:
    names = ("replica_id", "device", "health", "sequences", "tokens_per_second", "memory_bytes", "planned_bytes")
    slots = one["effective_config"].get("max_batch_size") or model["performance"]["max_batch_size"]
    return {"model": model["id"], "node": one["node_id"], "slots": slots, **{name: one[name] for name in names}}


def _waiting(queue: Mapping[str, Any]) -> int:
    return int(queue["interactive"]["waiting"] + queue["background"]["waiting"])


def _wait_s(queue: Mapping[str, Any]) -> float:
    return float(max(queue[kind]["oldest_wait_s"] for kind in ("interactive", "background")))


def _front(client: httpx.Client, queues: Iterable[Mapping[str, Any]]) -> Iterable[Fields]:
    """The jobs that wait at the front, of the queues where the first has waited longest; of those that the key sees."""
    longest = sorted(queues, key=_wait_s, reverse=True)
    ids = [job_id for queue in longest for kind in ("interactive", "background") for job_id in queue[kind]["first"]]
    for job_id in ids[:JOBS]:
        response = client.get(f"/jobs/{job_id}")
        if response.status_code != 404:  # of another key, or it has ended
            yield _data(response)


def _data(response: httpx.Response, *expected: int) -> Any:
    if response.status_code not in expected:
        raise_for_error(response)
    return response.json()["data"]

"""Is the process up, and can it serve? No key needed."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway import keys
from gateway.redis import CONNECTION_ERRORS
from web.envelope import gateway, success

blueprint = Blueprint("health", __name__, url_prefix="/health", description="Liveness and readiness")


@blueprint.route("/live")
@blueprint.response(200)
def live() -> Response:
    """The process answers."""
    return success({"status": "healthy"})


@blueprint.route("/ready")
@blueprint.response(200)
def ready() -> Response:
    """Redis answers, a keeper holds its lease, and at least one replica is healthy. 503 says what is missing.

    `catalog` is `stale` while headrace.toml has a mistake; the logs say which.
    """
    try:
        checks = {
            "redis": "healthy" if gateway().store.redis.ping() else "unhealthy",
            "keeper": "healthy" if gateway().store.redis.exists(keys.KEEPER) else "unhealthy",
            "replicas": {r.replica_id: r.health for r in gateway().registry.replicas()},
        }
    except CONNECTION_ERRORS:
        checks = {"redis": "unhealthy", "keeper": "unknown", "replicas": {}}
    checks["catalog"] = "stale" if gateway().catalog.problem else "healthy"
    replicas = checks["replicas"]
    serving = isinstance(replicas, dict) and "healthy" in replicas.values()
    if checks["redis"] == checks["keeper"] == "healthy" and serving:
        return success({"status": "healthy", **checks})
    return success({"status": "unhealthy", **checks}, status=503, message="not ready")

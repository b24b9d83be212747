"""Registration: the replica consumes its queues, and its heartbeat says that it serves."""

from __future__ import annotations

from gateway.cluster.registry import ReplicaStatus
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.stages.base import Startup

#: How long Celery may take to connect to the broker.
TIMEOUT_S = 60.0


def run(up: Startup) -> None:
    """Raises: DeploymentFailed."""
    worker = up.worker
    assert worker is not None
    worker.activate()
    deadline = int(TIMEOUT_S / 0.1)
    for tried in range(deadline):
        up.check()
        if worker.consuming.wait(0.1):
            break
        up.report(min(tried, 80), 100, counts=False)
    else:
        raise DeploymentFailed(FailureReason.TIMED_OUT, f"The queue was not reached within {TIMEOUT_S:.0f} s.")
    record = worker.announce()
    up.facts(status=ReplicaStatus.ACTIVE, measured_bytes=record.memory_bytes, effective_config=dict(record.effective))
    up.say(f"{record.replica_id} serves; it takes {record.memory_bytes / 1e6:.0f} MB")


def undo(up: Startup) -> None:
    """Nothing: the replica leaves the registry when it ends."""

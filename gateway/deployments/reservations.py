"""Which deployment changes a model: one at a time. The last one is remembered as long as its record is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from gateway.errors import Conflict
from gateway.jobs.record import Job
from gateway.jobs.store import JobStore
from gateway.store import keys

#: So long after a model was reserved its deployment may have no record yet.
BEGINNING_MS = 10_000


class Reservations:
    """Of all models. The value in Redis is the deployment's id, and when it was put there in ms."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def last(self, model_id: str) -> Job | None:
        """The deployment that changes a model, or was the last to do so; None if nothing is known of one."""
        deployment_id = self._value(model_id).partition(" ")[0]
        return self._store.read(deployment_id) if deployment_id else None

    def changing(self, model_id: str) -> Job | None:
        """The deployment that is changing a model now."""
        job = self.last(model_id)
        return job if job and not job.state.ended else None

    @contextmanager
    def taken(self, model_id: str, deployment_id: str) -> Iterator[None]:
        """Reserve a model for a deployment whose record is written within the block.

        Raises: Conflict if another one is changing it. The same in the block gives it back.
        """
        now_ms = self._store.clock.estimated_now_ms()
        before = self._value(model_id)
        self._require_free(model_id, before, now_ms)
        value = f"{deployment_id} {now_ms}"
        if not self._swap(model_id, before, value):
            raise Conflict(
                f"Another deployment of model {model_id!r} was begun at this moment. Look at the list of deployments.",
                reason="deployment_in_progress",
            )
        try:
            yield
        except Conflict:
            self._swap(model_id, value, before)
            raise

    def _require_free(self, model_id: str, value: str, now_ms: int) -> None:
        """Raises: Conflict if the deployment of that value has not ended, or its record is just being written."""
        deployment_id, _, reserved_at = value.partition(" ")
        job = self._store.read(deployment_id) if deployment_id else None
        begins = job is None and reserved_at.isdecimal() and now_ms - int(reserved_at) < BEGINNING_MS
        if begins or (job and not job.state.ended):
            raise Conflict(
                f"Deployment {deployment_id} is changing model {model_id!r}. Wait until it has ended, or cancel it.",
                reason="deployment_in_progress",
                details={"deployment_id": deployment_id},
            )

    def _value(self, model_id: str) -> str:
        return cast("str | None", self._store.redis.get(keys.deploying(model_id))) or ""

    def _swap(self, model_id: str, before: str, value: str) -> bool:
        return bool(self._store.scripts.run("swap", [keys.deploying(model_id)], before, value))

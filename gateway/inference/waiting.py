"""Who may wait for a model, and for how long one is expected to: limits, deadlines, positions. Creates no job."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NoReturn

from gateway.cluster.loading import Loading, Loads
from gateway.errors import QueueFull
from gateway.inference.backlog import Backlog
from gateway.inference.routing import ModelStatus, Router
from gateway.jobs.indexes import Load
from gateway.jobs.record import Job, JobHead, JobState
from gateway.jobs.store import Created, JobStore, Room
from gateway.scheduling.capacity import Capacity
from gateway.scheduling.lines import Lines
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW

log = logging.getLogger(__name__)

#: A replica with a free slot takes a job within so many ms.
AT_ONCE_MS = 100
#: When a key that has used up its share may try again, in seconds.
SHARE_RETRY_S = 10.0


@dataclass(frozen=True)
class Wait:
    """How long a job is expected to wait, and for what."""

    #: Seconds; None: nobody can tell.
    eta_s: float | None = None
    #: How far its model is loaded; None: it is there, or elsewhere.
    loading: Loading | None = None

    def to_public(self) -> dict[str, Any]:
        """As clients see it."""
        return {"eta_s": self.eta_s, "loading": self.loading.to_public() if self.loading else None}


class WaitingRoom:
    """Of all models. Without `loads` nothing is told of those that are being loaded."""

    def __init__(self, settings: Settings, store: JobStore, router: Router, loads: Loads | None = None) -> None:
        self._settings = settings
        self._loads = loads
        self._store = store
        self._router = router
        self._lines = Lines(store.redis, store.scripts)

    def room(self, job: Job, timeout_s: float | None) -> Room:
        """How long the line may be: as a setting says, and short enough for the job to begin in time."""
        capacity = self._router.capacity(job.runs_on, background=job.background)
        limits = self._limit(job), capacity.last_position(timeout_s) if timeout_s else 0
        return Room(min((limit for limit in limits if limit), default=0), capacity.per_second)

    def refuse(self, job: Job, created: Created, room: Room, timeout_s: float | None) -> NoReturn:
        """The job was not created, since there was no room. Raises: QueueFull."""
        retry_s, before = math.ceil(created.retry_ms / 1000), created.position - 1
        which = "background" if job.background else "interactive"
        eta_s = self.wait(job, created.position + created.coming).eta_s
        coming = f", with room kept for {created.coming} told to come back" if created.coming else ""
        expected = f"; it would begin in about {eta_s:.0f} s" if eta_s else ""
        too_late = timeout_s and room.last != self._limit(job)
        limit = f"its timeout is {timeout_s:.3g} s" if too_late else f"the limit is {room.last}"
        raise QueueFull(
            f"{before} {which} requests wait for {job.runs_on!r} before this one{coming}{expected}, and {limit}. "
            f"Try again in {retry_s} s.",
            reason="begins_too_late" if too_late else "queue_full",
            retry_after_s=retry_s,
        )

    def require_share(self, load: Load) -> None:
        """Check the key's limits. `load` includes the new job, so they also hold for concurrent requests.

        Raises: QueueFull.
        """
        settings = self._settings
        if 0 < settings.key_max_jobs < load.open:
            raise QueueFull(
                f"{load.open - 1} jobs of this key have not ended; the limit is {settings.key_max_jobs}. Wait "
                "until some have, or cancel them.",
                reason="too_many_jobs",
                retry_after_s=SHARE_RETRY_S,
            )
        if 0 < settings.key_max_bytes < load.stored:
            raise QueueFull(
                f"The requests of this key that can still be read have {load.stored} bytes together; the limit is "
                f"{settings.key_max_bytes}. Wait until some have expired.",
                reason="too_much_stored",
                retry_after_s=SHARE_RETRY_S,
            )

    def places(self, jobs: Sequence[JobHead]) -> dict[str, dict[str, Any]]:
        """Of those that wait: the position, and how long it is expected to take until they begin, in seconds."""
        waiting, others = [job for job in jobs if job.state is JobState.QUEUED], cache(self._interactive)
        return {
            job.id: {"position": position, **self._wait(job, position, others).to_public()}
            for job, position in zip(waiting, self._store.indexes.positions(waiting), strict=True)
        }

    def wait(self, job: JobHead, position: int) -> Wait:
        """How long a job at a position of its line is expected to wait, and for what."""
        return self._wait(job, position, self._interactive)

    def newcomer_s(self, model_id: str, backlog: Backlog, *, background: bool) -> float | None:
        """When a request that comes now would begin, behind those who wait, in seconds; None: nobody can tell."""
        others = backlog.interactive.waiting if background else 0
        before = others + (backlog.background if background else backlog.interactive).waiting
        if loading := self._loading(model_id):
            return loading.left_s
        capacity = self._router.capacity(model_id, background=background)
        # Who waits takes what is free: the heartbeat says what was before.
        wait_s = replace(capacity, free=0 if before else capacity.free, others=others).wait_s(before + 1)
        return None if wait_s is None else round(wait_s, 1)

    def _wait(self, job: JobHead, position: int, others: Callable[[str], int]) -> Wait:
        try:
            if loading := self._loading(job.runs_on):
                return Wait(loading.left_s, loading)
            wait_s = self._capacity(job, others).wait_s(position)
        except NOT_NOW as error:
            log.warning("job %s: how long it waits is not known (%s)", job.id, error, extra=job.log_ids)
            return Wait()
        return Wait(None if wait_s is None else round(wait_s, 1))

    def _loading(self, model_id: str) -> Loading | None:
        """How far a model is that will be there; None for one that is, and for a remote one."""
        model = self._router.find(model_id)
        if self._loads is None or model is None or not model.local:
            return None
        if self._router.status(model) not in (ModelStatus.LOADING, ModelStatus.ASLEEP, ModelStatus.AVAILABLE):
            return None
        return self._loads.of(model.id, self._router.specs(model))

    def _capacity(self, job: JobHead, others: Callable[[str], int]) -> Capacity:
        """As it is for a job that waits. A slot that is free is taken at once: the heartbeat says what was before.
        `others`: how many interactive jobs wait for a model.
        """
        capacity = self._router.capacity(job.runs_on, background=job.background)
        waits_ms = self._store.clock.estimated_now_ms() - job.created_at
        before = others(job.runs_on) if job.background else 0
        return replace(capacity, free=capacity.free if waits_ms < AT_ONCE_MS else 0, others=before)

    def _interactive(self, model: str) -> int:
        return self._lines.waiting(model).interactive

    def _limit(self, job: Job) -> int:
        """Jobs that may wait before it; 0: any number."""
        return self._settings.background_queue_limit if job.background else self._settings.queue_limit

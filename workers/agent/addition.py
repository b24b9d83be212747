"""One addition: find out what a name means, get its files, and write the model into the catalog.

The model is in the catalog only when all of that was done, so that an addition that fails leaves no model behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device
from gateway.deployments.addition_views import DOWNLOADING, LOOKING_UP, last_found
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import Conflict
from gateway.jobs.events import Event, EventType
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.models.catalog_store import Added, Download
from gateway.models.entry import Model
from gateway.models.tables import Problem
from gateway.settings import Settings
from gateway.store.connection import retry_until_redis_answers
from workers.agent.job_journal import JobJournal, now_ms
from workers.agent.rollout import Stopped
from workers.agent.transfer_rate import TransferRate
from workers.lookup.look_up import look_up
from workers.sources import source_of

T = TypeVar("T")

#: Least interval between two progress entries; how often a job without news refreshes its `progress_at`.
REPORT_S, PROGRESS_S = 0.5, 5.0


class Addition:
    """One addition, in a thread of its own. `stopping` is set when its agent ends."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        catalog: Catalog,
        device: Callable[[], Device],
        journal: JobJournal,
        events: Sequence[Event],
        *,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._device = device
        self._journal = journal
        self._job = journal.job
        self._asked: Mapping[str, Any] = self._job.job.request
        #: What an earlier claim has found: a branch may mean another commit by now.
        self._found: Mapping[str, Any] = last_found(events)
        self._stopping = stopping
        self._progress_at = 0.0

    def run(self) -> None:
        """Run it to its end: done, failed or cancelled. Raises: Stopped."""
        self._job.begin({"at": now_ms()})
        try:
            model = self._known() or self._look_up()
            if self._asked["pull"] and not self._asked["dry_run"]:
                self._download(model)
            if self._found and not self._asked["dry_run"]:
                self._retry(lambda: self._write(model))
        except (DeploymentFailed, Conflict) as error:
            self._end(error)
        else:
            self._job.done()

    def withdraw(self) -> None:
        """Nothing to undo."""

    def _known(self) -> Model | None:
        """The model of the catalog whose id was given in place of a name. One that was added by that name is looked up
        again, since a branch may have moved.
        """
        self._catalog.refresh()
        name = self._asked["name"]
        added = self._catalog.sources.added(name)
        if self._asked["id"] or self._asked["table"] or (added and added.requested == name):
            return None
        return {model.id: model for model in self._catalog if model.local}.get(name)

    def _look_up(self) -> Model:
        """What the name means, as a model that the catalog could have. Raises: DeploymentFailed, Conflict."""
        self._stage(LOOKING_UP, "in_progress", 0)
        if not self._found:
            found = look_up(
                self._asked["name"],
                settings=self._settings,
                device=self._device(),
                engine=self._asked["table"].get("engine", ""),
                is_cancelled=self._is_cancelled,
                log=self._journal.say,
            )
            entry = {**found.entry, **self._asked["table"]}
            self._found = {**found.to_public(), "id": self._asked["id"] or found.id, "entry": entry}
            self._journal.write(EventType.FACTS, {"at": now_ms(), "replica": "", "facts": dict(self._found)})
        model_id, entry = self._found["id"], self._found["entry"]
        self._require_free(model_id)
        model = self._catalog.sources.proposed(model_id, entry)
        if isinstance(model, Problem):
            raise DeploymentFailed(FailureReason.UNSUPPORTED_OPTION, f"{model.field}: {model.text}")
        self._stage(LOOKING_UP, "completed", 100)
        return model

    def _require_free(self, model_id: str) -> None:
        """Raises: Conflict if the id is that of another model, not of this one as it was before."""
        self._catalog.refresh()
        before = self._catalog.sources.added(model_id)
        if before is None or before.requested != self._asked["name"]:
            self._catalog.require_new(model_id)

    def _download(self, model: Model) -> None:
        """Get the model's files. Raises: DeploymentFailed."""
        self._stage(DOWNLOADING, "in_progress", 0)
        source, rate = source_of(model, self._settings), TransferRate()
        store = self._catalog.sources.require_store()
        self._retry(lambda: store.want(Download(model.source, model.engine)))

        def report(done: int, total: int) -> None:
            if rate.take(done, total, every_s=REPORT_S):
                percent = min(99, 100 * done // max(total, 1))
                self._stage(DOWNLOADING, "in_progress", percent, **rate.to_public())

        try:
            source.fetch(on_progress=report, is_cancelled=self._is_cancelled, log=self._journal.say)
        except DeploymentFailed:
            source.discard()
            raise
        self._stage(DOWNLOADING, "completed", 100, **rate.to_public())

    def _write(self, model: Model) -> None:
        """Write it into the catalog, and its size, so that it can be planned for. Raises: Conflict, NOT_NOW."""
        self._require_free(model.id)
        found, store = self._found, self._catalog.sources.require_store()
        added = Added(found["entry"], found["facts"], self._asked["name"], now_ms(), self._job.job.key_id)
        if self._catalog.sources.added(model.id):
            store.change(model.id, added)
        else:
            store.add(model.id, added)
        footprint = source_of(model, self._settings).inspect()
        Footprints(self._store.redis).add(*self._device().address, model.id, footprint)
        self._journal.say(f"{model.id} is in the catalog: {model.engine}, {found['facts']['format']}")

    def _end(self, error: DeploymentFailed | Conflict) -> None:
        if isinstance(error, Conflict):
            self._job.fail(error.reason, error.message)
        elif error.reason is FailureReason.CANCELLED:
            self._job.cancelled()
        else:
            reason = error.reason
            self._job.fail(reason.value, error.message, remedy=reason.remedy, log=self._journal.last_lines())

    def _stage(self, stage: str, status: str, percent: int, **more: Any) -> None:
        body = {"at": now_ms(), "replica": "", "stage": stage, "status": status, "progress": percent, **more}
        self._journal.write(EventType.STAGE, body)

    def _is_cancelled(self) -> bool:
        """Whether it was cancelled. Called often: refreshes `progress_at` now and then. Raises: Stopped."""
        if self._stopping.is_set():  # what was fetched so far stays, for the next agent to go on with
            raise Stopped
        if time.monotonic() > self._progress_at + PROGRESS_S:
            self._progress_at = time.monotonic()
            self._retry(lambda: self._store.progress([self._job.job]))
        return self._job.to_cancel.is_set()

    def _retry(self, call: Callable[[], T]) -> T:
        """Call until Redis answers. Raises: Stopped."""
        return retry_until_redis_answers(call, what=f"addition {self._job.id}", wait=self._wait)

    def _wait(self, pause_s: float) -> None:
        if self._stopping.wait(pause_s):
            raise Stopped

"""One deployment: start its replicas, wait until they serve, retire those that they replace; or roll back.

It only changes the desired state, which the agents of all devices make true, and follows the result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.durations import Durations
from gateway.cluster.registry import Device, Registry
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.cached import Cached
from gateway.store.codec import build
from gateway.store.connection import retry_until_redis_answers
from workers.agent.job_journal import now_ms
from workers.agent.rollout_journal import RolloutJournal
from workers.agent.startup_follower import StartupFollower

#: Pause between two checks of a deployment's replicas.
LOOK_S = 0.15
#: How often a deployment without news refreshes its `progress_at`.
PROGRESS_S = 5.0
#: How long a rollback waits for its replicas to end, beyond the time that their requests may take.
ROLL_BACK_S = 30.0

T = TypeVar("T")


class Stopped(Exception):
    """This agent ends, or another one has the deployment."""


class Cancelled(Exception):
    """The deployment was cancelled, and must be rolled back."""


class Rollout:
    """One deployment, in a thread of its own. `stopping` is set when its agent ends."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        journal: RolloutJournal,
        follower: StartupFollower,
        *,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._follower = follower
        self._stopping = stopping
        self._job = journal.job
        self._desired = Desired(store.redis)
        self._registry = Registry(store.redis)
        self._durations = Durations(store.redis)
        request = self._job.job.request
        self._specs = [build(ReplicaSpec, one) for one in request["wanted"]]
        self._replaced = [build(ReplicaSpec, one) for one in request["replaced"]]
        self._progress_at = 0.0
        self._gone_since: dict[str, float] = {}
        self._devices: Cached[list[Device]] = Cached()

    def run(self) -> None:
        """Run the deployment to its end: done, failed or cancelled. Raises: Stopped."""
        self._job.begin({"at": now_ms()})
        try:
            self._start_replicas()
            self._retire_replaced()
        except DeploymentFailed as error:
            self._journal.say(error.message, "error")
            self._roll_back()
            self._fail(error)
        except Cancelled:
            self._journal.say("cancelled; everything is undone", "warning")
            self._roll_back()
            self._retry(lambda: self._journal.publish("REVOKED"))
            self._job.cancelled()
        else:
            self._retry(lambda: self._durations.add(self._job.job.model, self._journal.progress.seconds()))
            self._retry(lambda: self._journal.publish("SUCCESS"))
            self._job.done()

    def withdraw(self) -> None:
        """Remove its replicas from the desired state. Raises: Stopped."""
        self._retry(lambda: self._desired.drop(self._specs))

    def _start_replicas(self) -> None:
        """Add the replicas to the desired state, and wait until they all serve."""
        if not self._job.job.seq:
            model = self._job.job.model
            self._journal.say(f"deploying {model}" if self._specs else f"scaling {model}")
        self._check(may_cancel=True)
        while not self._retry(self._all_active):
            self._pause(may_cancel=True)
        # Who unloads a model marks its deployment, then removes what is desired. What was put back since is seen here.
        if self._retry(self._is_marked):
            raise Cancelled

    def _is_marked(self) -> bool:
        """Whether the record says that the deployment is to be cancelled. Raises: NOT_NOW."""
        head = self._store.heads([self._job.id]).get(self._job.id)
        return head is not None and head.cancel

    def _all_active(self) -> bool:
        """Copy new startup entries. Returns whether all replicas serve. Raises: DeploymentFailed, NOT_NOW."""
        there = {one.replica_id for one in self._desired.of_deployment(self._job.job.model, self._job.id)}
        # Some are missing at the beginning, or when Redis has lost its last writes.
        self._desired.put(*(one for one in self._specs if one.replica_id not in there))
        self._follower.copy(self._specs)
        serve = self._follower.all_serve(self._specs)
        self._require_nodes()
        return serve

    def _retire_replaced(self) -> None:
        """Remove the replicas that are replaced, now that the new ones serve."""
        if not self._replaced:
            return
        self._journal.say(f"{len(self._replaced)} earlier replicas end when their requests have ended")
        self._retry(lambda: self._desired.drop(self._replaced))
        self._await_gone(self._replaced)

    def _roll_back(self) -> None:
        self.withdraw()
        self._await_gone(self._specs)

    def _fail(self, error: DeploymentFailed) -> None:
        reason, lines = error.reason, self._journal.last_lines()
        self._retry(lambda: self._journal.publish("FAILURE", reason=reason.value, message=error.message))
        self._job.fail(reason.value, error.message, remedy=reason.remedy, log=lines)

    def _await_gone(self, replicas: Sequence[ReplicaSpec]) -> None:
        deadline = time.monotonic() + self._settings.drain_s + ROLL_BACK_S
        while time.monotonic() < deadline:
            if self._retry(lambda: not self._any_alive(replicas)):
                return
            self._pause(may_cancel=False)
        self._journal.say("some replicas have not ended yet; their agents see to it", "warning")

    def _any_alive(self, replicas: Sequence[ReplicaSpec]) -> bool:
        """Whether one of them is alive, or its agent still has something to do for it. Raises: NOT_NOW."""
        alive = {one.replica_id for one in self._registry.replicas(self._job.job.model)}
        agents = self._agents()
        return any(
            one.replica_id in alive or (one.address in agents and not self._follower.has_ended(one)) for one in replicas
        )

    def _require_nodes(self) -> None:
        """Raises: DeploymentFailed if an agent has been gone for too long."""
        agents, now = self._agents(), time.monotonic()
        for one in self._specs:
            if one.address in agents:
                self._gone_since.pop(one.replica_id, None)
            elif now - self._gone_since.setdefault(one.replica_id, now) > self._settings.node_gone_s:
                raise DeploymentFailed(
                    FailureReason.NODE_GONE,
                    f"The agent of {one.node}.{one.device} is gone for {self._settings.node_gone_s:.0f} s.",
                )

    def _agents(self) -> set[tuple[str, str]]:
        """The devices that have a living agent. Raises: NOT_NOW."""
        return {device.address for device in self._devices.get(self._registry.devices)}

    # -- waiting

    def _check(self, *, may_cancel: bool) -> None:
        """Raises: Stopped, Cancelled."""
        if self._stopping.is_set() or self._job.finished.is_set():
            raise Stopped
        if may_cancel and self._job.to_cancel.is_set():
            raise Cancelled

    def _pause(self, *, may_cancel: bool) -> None:
        """Wait between two checks. Raises: Stopped, Cancelled."""
        self._check(may_cancel=may_cancel)
        if time.monotonic() > self._progress_at + PROGRESS_S:
            self._retry(lambda: self._store.progress([self._job.job]))
            self._retry(lambda: self._journal.publish("PROGRESS"))
            self._progress_at = time.monotonic()
        self._job.to_cancel.wait(LOOK_S) if may_cancel else time.sleep(LOOK_S)

    def _retry(self, call: Callable[[], T]) -> T:
        """Call until Redis answers. Raises: Stopped."""
        return retry_until_redis_answers(call, what=f"deployment {self._job.id}", wait=self._wait)

    def _wait(self, pause_s: float) -> None:
        if self._stopping.wait(pause_s):
            raise Stopped

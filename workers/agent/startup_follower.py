"""Follows the startup of replicas, on all devices, and copies their logs into a rollout's journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import redis

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.startup import End, Entry, StartupLog
from gateway.deployments.reasons import DeploymentFailed, reason_of
from gateway.jobs.events import Event, EventType
from workers.agent.rollout_journal import RolloutJournal


class StartupFollower:
    """Continues where an earlier claim of the deployment stopped copying; `events` is the journal so far."""

    def __init__(self, client: redis.Redis, journal: RolloutJournal, events: Sequence[Event]) -> None:
        self._redis = client
        self._journal = journal
        #: The last copied entry of each replica's log.
        self._copied = {event.body["replica"]: event.body["entry"] for event in events if "entry" in event.body}
        #: How each replica's startup has ended, if it has.
        self._ends = {
            event.body["replica"]: Entry(event.body["at"], end=event.body["end"], failure=event.body["failure"])
            for event in events
            if event.body.get("end", End.GONE) != End.GONE
        }

    def copy(self, replicas: Iterable[ReplicaSpec]) -> None:
        """Copy the new entries of their logs into the journal. Raises: NOT_NOW."""
        for replica in replicas:
            log = StartupLog(self._redis, replica.replica_id)
            for entry in log.read(self._copied.get(replica.replica_id, "")):
                self._copied[replica.replica_id] = entry.id
                self._write(replica.replica_id, entry)

    def all_serve(self, replicas: Iterable[ReplicaSpec]) -> bool:
        """Whether all serve. Raises: DeploymentFailed if one has failed."""
        ends = [self._ends.get(replica.replica_id) for replica in replicas]
        for end in ends:
            if end is not None and end.end == End.FAILED:
                raise DeploymentFailed(reason_of(end.failure), end.failure.get("message", ""))
        return all(end is not None and end.end == End.ACTIVE for end in ends)

    def has_ended(self, replica: ReplicaSpec) -> bool:
        """Whether its agent has nothing more to do for it. Raises: NOT_NOW."""
        entries = StartupLog(self._redis, replica.replica_id).read()
        return not entries or entries[-1].end == End.GONE

    def _write(self, replica_id: str, entry: Entry) -> None:
        at = {"at": entry.at_ms, "replica": replica_id, "entry": entry.id}
        if entry.stage:
            stage = {"stage": entry.stage, "status": entry.status, "progress": entry.progress}
            units = {"units_done": entry.units_done, "units_total": entry.units_total} if entry.units_total else {}
            self._journal.write(EventType.STAGE, {**at, **stage, **units})
        if entry.message:
            self._journal.write(EventType.LOG, {**at, "level": entry.level, "message": entry.message})
        if entry.facts:
            self._journal.write(EventType.FACTS, {**at, "facts": dict(entry.facts)})
        if entry.end:
            end = {"end": entry.end, "failure": dict(entry.failure), "facts": {"status": entry.end}}
            self._journal.write(EventType.FACTS, {**at, **end})
            if entry.end != End.GONE:  # what has failed is gone a moment later
                self._ends[replica_id] = entry

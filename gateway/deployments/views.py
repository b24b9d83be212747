"""Deployments as clients see them, in the document's words: folded from the job record and its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.cluster.startup import STAGES, StageStatus
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job, JobState
from schemas.base.times import iso

#: Log lines in the status.
MAX_LOGS = 200
#: Types of journal events, by the name that the stream gives them.
SHOWN = {
    EventType.STAGE: "stage",
    EventType.LOG: "log",
    EventType.FACTS: "facts",
    EventType.DONE: "completed",
    EventType.CANCELLED: "cancelled",
}

#: Fields of the record that say what was planned.
PLANNED = ("memory_plan", "effective_config", "warnings")
#: Fields of an event that clients don't see, or see under another name.
INTERNAL = frozenset({"type", "c", "at", "usage", "entry", "end", "failure"})


#: Tolerance for sums of floats, in percent.
_ROUNDING = 1e-6


@dataclass
class Stage:
    """One stage of one replica. Times are ms since the epoch."""

    status: str = "pending"
    progress: int = 0
    #: What it counts, such as bytes or tensors; `units_total` 0: that is not known.
    units_done: int = 0
    units_total: int = 0
    began_at: int = 0
    ended_at: int = 0


@dataclass
class Progress:
    """The progress that a journal adds up to."""

    #: Replica id, then stage.
    stages: dict[str, dict[str, Stage]]
    #: Expected seconds of each stage at the beginning of the deployment: the weights of the stages.
    expected_s: Mapping[str, float]
    #: 0 to 100. It never decreases, though a replica that fails starts again.
    percent: int = 0
    logs: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_events(cls, job: Job, events: Iterable[Event]) -> Progress:
        """Fold the events of a deployment."""
        names = [one["replica_id"] for one in job.request.get("wanted", ())]
        progress = cls(
            {name: {stage: Stage() for stage in STAGES} for name in names}, job.request.get("expected_s", {})
        )
        for event in events:
            progress.take(event.type, event.body)
        return progress

    def take(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add one event."""
        if kind is EventType.LOG:
            line = {"timestamp": iso(body["at"]) or "", "level": body["level"], "message": body["message"]}
            self.logs.append(line)
        elif kind is EventType.FACTS:
            self.facts.setdefault(body["replica"], {}).update(body["facts"])
        elif kind is EventType.STAGE:
            self._take_stage(body)
            self.percent = max(self.percent, int(100 - 100 * self.left_s() / self._total_s() + _ROUNDING))

    def of_stage(self, name: str) -> list[Stage]:
        """One stage of all replicas."""
        return [stages.get(name, Stage()) for stages in self.stages.values()]

    def done(self, name: str) -> float:
        """Progress of a stage, averaged over all replicas, 0 to 100."""
        each = self.of_stage(name)
        return sum(100 if s.status == StageStatus.COMPLETED else s.progress for s in each) / len(each) if each else 0

    def left_s(self) -> float:
        """Expected seconds that are left."""
        return sum(self._expected_s(name) * (100 - self.done(name)) / 100 for name in STAGES)

    def seconds(self) -> dict[str, float]:
        """Duration of each stage that has ended, from its first beginning to its last end."""
        spans = ((name, _span_s(self.of_stage(name))) for name in STAGES)
        return {name: span_s for name, span_s in spans if span_s is not None}

    def _take_stage(self, body: Mapping[str, Any]) -> None:
        stages = self.stages.setdefault(body["replica"], {})
        stage = stages.setdefault(body["stage"], Stage())
        if body["status"] == StageStatus.IN_PROGRESS and stage.status != StageStatus.IN_PROGRESS:
            for name in list(STAGES)[list(STAGES).index(body["stage"]) :]:  # later stages are of an earlier try
                stages[name] = Stage()
            stage = stages[body["stage"]]
            stage.began_at = body["at"]
        stage.status, stage.progress = body["status"], body.get("progress", 0)
        stage.units_done = body.get("units_done", stage.units_done)
        stage.units_total = body.get("units_total", stage.units_total)
        if stage.status != StageStatus.IN_PROGRESS:
            stage.ended_at = body["at"]

    def _expected_s(self, name: str) -> float:
        return self.expected_s.get(name, 1.0)

    def _total_s(self) -> float:
        return sum(map(self._expected_s, STAGES)) or 1.0


def links(deployment_id: str, root: str) -> dict[str, str]:
    """Where REST shows the deployment, and its events. `root` is the root path of REST."""
    path = f"{root}/models/local/deployments/{deployment_id}"
    return {"progress_url": path, "events_url": f"{path}/events"}


def summary(job: Job, root: str) -> dict[str, Any]:
    """What the list and the single deployment share."""
    return {
        "deployment_id": job.id,
        "model_id": job.model,
        "status": job.word,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "error": dict(job.error) or None,
        "progress_url": links(job.id, root)["progress_url"],
    }


def listed(job: Job, events: Sequence[Event], root: str = "") -> dict[str, Any]:
    """One deployment of the list, with its present stage until it has ended. `events` are those of one that has not."""
    now: dict[str, Any] = {"progress": None, "current_stage": None}
    if not job.state.ended:
        found = stages(job, Progress.from_events(job, events), now_ms=0)
        now = {name: found[name] for name in now}
    return {**summary(job, root), **now}


def detail(job: Job, events: Sequence[Event], root: str = "") -> dict[str, Any]:
    """All of one deployment."""
    specs = job.request.get("wanted", [])
    progress = Progress.from_events(job, events)
    last = events[-1].body.get("at", 0) if events else 0
    return {
        **summary(job, root),
        **stages(job, progress, now_ms=max(last, job.progress_at, job.created_at)),
        "logs": progress.logs[-MAX_LOGS:],
        "replicas": [_replica(one, progress) for one in specs],
        "on_demand": bool(job.request.get("on_demand")),
        "asked_by": str(job.request.get("asked_by") or job.key_id),
        **{name: job.request[name] for name in PLANNED if name in job.request},
        **links(job.id, root),
    }


def stages(job: Job, progress: Progress, *, now_ms: int) -> dict[str, Any]:
    """The progress of the deployment and of each stage, and when it will be done."""
    each = [_stage(name, progress, job) for name in STAGES]
    current = next((stage["name"] for stage in each if stage["status"] != StageStatus.COMPLETED), each[-1]["name"])
    return {
        "progress": 100 if job.state is JobState.DONE else progress.percent,
        "current_stage": current,
        "stages": each,
        "estimated_completion": None if job.state.ended else iso(now_ms + int(progress.left_s() * 1000)),
    }


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event: one, or none for an internal event."""
    if event.type not in SHOWN:
        return []
    body = {name: value for name, value in event.body.items() if name not in INTERNAL}
    at = {"timestamp": iso(event.body["at"])} if "at" in event.body else {}
    return [{"deployment_id": job.id, "model_id": job.model, "event": SHOWN[event.type], **at, **body}]


def duration(seconds: float) -> str:
    """Seconds as the document writes them: `10s`, `5m`."""
    if seconds < 90:
        return f"{max(1, round(seconds))}s" if seconds >= 1 else f"{seconds:.1f}s"
    return f"{round(seconds / 60)}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"


def _stage(name: str, progress: Progress, job: Job) -> dict[str, Any]:
    """One stage over all replicas: average progress; it has ended when it has for all."""
    each = progress.of_stage(name)
    words = {stage.status for stage in each}
    if not each and job.state is JobState.DONE:
        return {"name": name, "status": "completed", "duration": duration(0)}
    word = next((w for w in ("failed", "in_progress") if w in words), "pending" if "pending" in words else "completed")
    if word == "pending" and "completed" in words:
        word = "in_progress"
    if job.state is JobState.CANCELLED and word == "in_progress":
        word = "cancelled"
    to_public: dict[str, Any] = {"name": name, "status": word if each else "pending"}
    if word == "in_progress":
        to_public["progress"] = int(progress.done(name))
    if total := sum(stage.units_total for stage in each):
        done = sum(stage.units_total if stage.status == StageStatus.COMPLETED else stage.units_done for stage in each)
        to_public |= {"units_done": done, "units_total": total}
    if (span_s := _span_s(each)) is not None:
        to_public["duration"] = duration(span_s)
    return to_public


def _span_s(each: Sequence[Stage]) -> float | None:
    """From the first beginning of a stage to its last end, in seconds; None until it has ended for all."""
    if not each or not all(stage.ended_at for stage in each):
        return None
    return (max(stage.ended_at for stage in each) - min(stage.began_at for stage in each)) / 1000


def _replica(spec: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    facts = progress.facts.get(spec["replica_id"], {})
    return {
        "replica_id": spec["replica_id"],
        "node_id": spec["node"],
        "device": spec["device"],
        "status": facts.get("status", "pending"),
        "planned_bytes": facts.get("planned_bytes"),
        "measured_bytes": facts.get("measured_bytes"),
    }

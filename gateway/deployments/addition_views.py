"""CatalogEditor of models as clients see them: folded from the job's journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.deployments.views import INTERNAL, SHOWN
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job
from schemas.base.times import iso

#: The stages of an addition, in their order.
LOOKING_UP, DOWNLOADING = "looking_up", "downloading_weights"
#: Types of journal events, by the name that the stream gives them.
_SHOWN = {**SHOWN, EventType.FACTS: "found"}


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event: one, or none for an internal event."""
    if event.type not in _SHOWN:
        return []
    body = {name: value for name, value in event.body.items() if name not in INTERNAL | {"replica", "facts"}}
    at = {"timestamp": iso(event.body["at"])} if "at" in event.body else {}
    found = {"found": event.body["facts"]} if event.type is EventType.FACTS else {}
    return [{"job_id": job.id, "name": job.request.get("name", ""), "event": _SHOWN[event.type], **at, **body, **found}]


def detail(job: Job, events: Sequence[Event]) -> dict[str, Any]:
    """What has become of it."""
    found = last_found(events)
    return {
        "name": job.request.get("name", ""),
        "model_id": found.get("id"),
        "found": found or None,
        "logs": [
            {"timestamp": iso(event.body["at"]), "level": event.body["level"], "message": event.body["message"]}
            for event in events
            if event.type is EventType.LOG
        ],
    }


def last_found(events: Sequence[Event]) -> dict[str, Any]:
    """What was found out; empty until it was."""
    return next((dict(event.body["facts"]) for event in reversed(events) if event.type is EventType.FACTS), {})

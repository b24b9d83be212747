"""Quarantine for records that can't be read: each is moved away, and replaced with the record of a failed job."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence

from gateway.errors import Unreadable
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import DEPLOYMENT, RECORD_VERSION, JobHead, is_newer, new_claim_id, salvaged
from gateway.jobs.store import JobStore
from gateway.store import checks, keys
from gateway.store.codec import dumps, loads
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out

log = logging.getLogger(__name__)

#: How long the damaged record is kept, and the record of a failed job that replaces it.
DAMAGED_MS = 86_400_000


def sift(store: JobStore, job_ids: Sequence[str]) -> dict[str, JobHead | None]:
    """Heads as `JobStore.heads` has them; records that can't be read are put into quarantine. Raises: NOT_NOW."""
    found = store.heads(job_ids)
    for job_id in job_ids:
        if job_id not in found:
            quarantine(store, job_id)
    return found


def quarantine(store: JobStore, job_id: str) -> bool:
    """Move a record that can't be read away, and replace it with that of a job that failed for this reason.

    A record of a newer version is left alone. Returns whether it was replaced. Raises: NOT_NOW.
    """
    (reply,) = pipeline(store.redis, [("HGETALL", keys.job(job_id))], raise_on_error=False)
    raw = reply if isinstance(reply, dict) else {}
    if is_newer(raw):
        return False
    error = {"reason": Unreadable.reason, "message": "What Redis held of this job was damaged, so it was given up."}
    event = Event(0, {"type": EventType.FAILED.value, "c": new_claim_id(), "error": error}).encoded
    kept = {**_kept(raw, now_ms=store.clock.now_ms()), "error": dumps(error)}
    fields = [part for pair in kept.items() for part in pair]
    names = [*keys.of_job(job_id), keys.damaged(job_id)]
    done, seq, watch = store.scripts.run("quarantine", names, DAMAGED_MS, DAMAGED_MS, event, *fields)
    if not done:
        return False
    log.error("job %s: its record could not be read, and lies in %s now", job_id, keys.damaged(job_id))
    store.journals.publish({hub: [(job_id, int(seq), [event])] for hub in str(watch).split(",") if hub})
    with leaving_out(f"The record of job {job_id}"):
        if head := store.heads([job_id])[job_id]:
            store.indexes.settle(head)
    return True


def _kept(raw: Mapping[str, str], *, now_ms: int) -> dict[str, str]:
    """The readable fields of a record, without those that the end sets."""
    defaults = {"kind": "chat", "model": "unknown", "key_id": "unknown", "created_at": str(now_ms)}
    kept = {**defaults, **salvaged(raw)}
    for name in ("state", "seq", "finished_at", "owner", "claim"):
        kept.pop(name, None)
    request = _request(kept["kind"], raw.get("request") or "")
    return {**kept, "request": request, "v": str(RECORD_VERSION), "ttl_ms": str(DAMAGED_MS)}


def _request(kind: str, text: str) -> str:
    """The request of a damaged record; an empty one if it can't be read either."""
    with contextlib.suppress(ValueError):
        if text and not checks.request(kind, loads(text)):
            return text
    return dumps({"wanted": [], "replaced": []} if kind == DEPLOYMENT else {})

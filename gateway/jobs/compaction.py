"""Shrinks the journals of jobs that have ended: their deltas become one snapshot, which reads the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gateway.errors import Unreadable
from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import as_delta, fold, num_indexes, usage
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.loop import guarded
from gateway.store.unreadable import note

#: A journal with fewer entries is not compacted.
MIN_ENTRIES = 5
#: Jobs checked in one call.
BATCH = 200


def compact_ended(store: JobStore, model: str, *, before_ms: int) -> int:
    """Compact the jobs of a model that ended before `before_ms`, and remove them from its list of ended jobs.

    Returns how many journals have shrunk.
    """
    ended = store.redis.zrange(keys.ended(model), 0, before_ms, byscore=True, offset=0, num=BATCH)
    job_ids = [str(job_id) for job_id in ended]
    if not job_ids:
        return 0
    shrunk = 0
    for job_id in store.journals.long_among(job_ids, MIN_ENTRIES):
        with guarded(f"job {job_id}: its journal does not shrink"):
            shrunk += _compact(store, job_id)
    store.redis.zrem(keys.ended(model), *job_ids)
    return shrunk


def _compact(store: JobStore, job_id: str) -> bool:
    try:
        events = store.journals.read(job_id)
    except Unreadable as error:
        note(job_id, error)
        return False
    entries = snapshot(events)
    return store.journals.replace(job_id, entries) if len(entries) < len(events) else False


def snapshot(events: Sequence[Event]) -> list[Event]:
    """The compacted journal: the first entry, all deltas as one, and the end. Token ids are only counted."""
    deltas = [event for event in events if event.type is EventType.DELTA]
    if not deltas or not events[-1].type.terminal:
        return list(events)
    first = [event for event in events[:1] if event.type is EventType.STARTED]
    middle = events[len(first) : -1]
    body = {
        "type": EventType.SNAPSHOT.value,
        "c": middle[-1].claim,
        "choices": [as_delta(i, choice) for i, choice in enumerate(fold(middle, num_choices=num_indexes(middle)))],
        **{name: usage(events[:-1])[name] for name in ("prompt_tokens", "completion_tokens")},
        **_models(events),
    }
    return [*first, Event(middle[-1].seq, body), events[-1]]


def _models(events: Sequence[Event]) -> dict[str, object]:
    """The models that worked on the answer, if more than one did."""
    named = [e.body["model"] for e in events if e.type in (EventType.STARTED, EventType.RESUMED) and "model" in e.body]
    names = [name for name, _ in itertools.groupby(named)]
    return {"model": names[-1], "served_by": names} if len(names) > 1 else {}

"""Embedding jobs as clients see them: the answer from packed vectors, and progress. Knows nothing of HTTP or gRPC."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from gateway.errors import JobNotFound, Unreadable
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job


def answer(job: Job, events: Sequence[Event], packed: bytes) -> dict[str, Any]:
    """The answer of a job that has ended. Each vector is a numpy row, or base64 text if the request says so.

    A job that was cancelled has no vectors. Raises: JobNotFound if those of a finished one are gone; Unreadable.
    """
    import numpy  # only here: it is slow to load

    tokens = next((event.body["prompt_tokens"] for event in events if "prompt_tokens" in event.body), 0)
    whole = {"object": "list", "model": job.runs_on, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    if not events or events[-1].type is not EventType.DONE:
        return {**whole, "data": []}
    if not packed:
        raise JobNotFound("The job's vectors have expired; nothing more can be read of it.", reason="expired")
    num_inputs = 1 + max((index for event in events for index in event.body.get("done", ())), default=0)
    if len(packed) % (4 * num_inputs):
        raise Unreadable(f"What job {job.id} has made can't be read: {len(packed)} bytes are no {num_inputs} vectors.")
    rows = numpy.frombuffer(packed, "<f4").reshape(num_inputs, -1)
    if job.request.get("encoding_format") == "base64":
        vectors: Any = (base64.b64encode(row.tobytes()).decode() for row in rows)
    else:
        vectors = rows
    data = [{"object": "embedding", "embedding": vector, "index": index} for index, vector in enumerate(vectors)]
    return {**whole, "data": data}


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event: which inputs are done, and the usage. Vectors are only in the answer."""
    head = {"id": job.id, "object": "embedding.progress", "created": job.created_at // 1000, "model": job.runs_on}
    if event.type is EventType.VECTORS:
        return [{**head, "done": event.body["done"]}]
    if event.type is EventType.REWOUND:
        return [{**head, "done": [], "rewound": {"seq": event.seq}}]
    if event.type is EventType.DONE:
        return [{**head, "done": [], "usage": event.body.get("usage", {})}]
    return []

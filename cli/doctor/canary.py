"""Sends a request for one token to one replica, through its own queue: the path of all requests, except the face."""

from __future__ import annotations

import time

from cli.doctor.checks import Finding, Installed, ok, problem, warning
from gateway.access.api_keys import Credentials
from gateway.cluster.registry import Replica
from gateway.inference.parameters import check_embedding, with_defaults
from gateway.jobs.control import cancel
from gateway.jobs.events import EventType
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.models.entry import Model
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue
from gateway.queue.names import Priority, replica_queue
from schemas.embeddings import EmbeddingRequestSchema
from schemas.inference import ChatRequestSchema, CompletionRequestSchema

#: How long a replica may take, and how often its job is read.
DEADLINE_S, LOOK_S = 10.0, 0.02
#: How long the record is kept.
TTL_MS = 60_000


def ask(installed: Installed, replica: Replica) -> Finding:
    """Let a replica answer, and report the result."""
    key = next((key for key in Credentials(installed.redis).list() if key.status == "active"), None)
    if key is None:
        return warning("there is no API key yet, on whose account a replica could be asked", "headrace key create NAME")
    name, began = replica.replica_id, time.monotonic()
    job = _send(installed, replica, key.id)
    while time.monotonic() < began + DEADLINE_S:
        record = installed.store.read(job.id)
        if record is None or record.state.ended:
            break
        time.sleep(LOOK_S)
    else:
        cancel(installed.store, installed.store.read(job.id) or job, reason="client_request")
        busy = f", {replica.sequences} of {replica.max_batch_size} slots were taken"
        return problem(f"{name} did not answer within {DEADLINE_S:.0f} s{busy}", _remedy(replica))
    if record is None or record.state is not JobState.DONE:
        why = record.error.get("message", record.state.word) if record else "its record is gone"
        return problem(f"{name} did not answer: {why}", _remedy(replica))
    by = [
        str(event.body.get("replica", "")) for event in installed.store.journals.read(job.id) if _is_claim(event.type)
    ]
    if by and by[-1] != name:
        return warning(f"{name} did not take its request; {by[-1]} did", _remedy(replica))
    return ok(f"{name} has answered in {time.monotonic() - began:.2f} s")


def _send(installed: Installed, replica: Replica, key_id: str) -> Job:
    model = installed.catalog.get(replica.model)
    kind, request = _smallest(model)
    job = Job(
        id=new_job_id(kind), state=JobState.QUEUED, kind=kind, model=model.id, key_id=key_id, request=request, slots=1
    )
    installed.store.create(job, ttl_ms=TTL_MS, pinned=True)
    queue = replica_queue(replica.node, replica.device, replica.model)
    enqueue(make_celery(installed.settings), job.id, queue_key=model.id, priority=Priority.INTERACTIVE, queue=queue)
    return job


def _smallest(model: Model) -> tuple[str, dict[str, object]]:
    """Kind and body of the smallest request that a model takes."""
    if "completion" in model.capabilities:
        completion = CompletionRequestSchema().load({"prompt": "1", "max_tokens": 1})
        return "completion", with_defaults(model, completion.given())
    if "chat" in model.capabilities:
        messages = [{"role": "user", "content": "1"}]
        return "chat", with_defaults(model, ChatRequestSchema().load({"messages": messages, "max_tokens": 1}).given())
    return "embedding", check_embedding(model, EmbeddingRequestSchema().load({"input": "1"}).given())


def _is_claim(kind: EventType) -> bool:
    return kind in (EventType.STARTED, EventType.RESUMED)


def _remedy(replica: Replica) -> str:
    return f"See 'headrace logs model-{replica.replica_id}' on {replica.node}."

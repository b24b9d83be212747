"""Asks again what a job has asked."""

from __future__ import annotations

from gateway.access.api_keys import KeyRecord
from gateway.errors import InvalidRequest
from gateway.inference.service import Inference, Submitted
from gateway.jobs.record import AGENT_KINDS


def replay(inference: Inference, job_id: str, *, key: KeyRecord, idempotency_key: str | None = None) -> Submitted:
    """A new job that asks the same, in the background, on the account of `key`; or the one of an earlier replay with
    the same idempotency key.

    Raises: JobNotFound; InvalidRequest, if it ran no model or its request was not kept; as `Inference.submit`.
    """
    job = inference.get(job_id, key=key)
    if job.kind in AGENT_KINDS:
        raise InvalidRequest(f"Job {job_id!r} is no request to a model: a {job.kind} can't be asked again.")
    if job.state.ended and not job.request.get("store", True):
        raise InvalidRequest(f'Job {job_id!r} was asked with "store": false, so its prompt was not kept.')
    submitted = inference.submit(
        job.kind, job.model, job.request, key=key, background=True, idempotency_key=idempotency_key
    )
    if job.key_id != key.id and not submitted.replayed:
        inference.audit.note(key, "job.replay", job.id, key_id=job.key_id, job_id=submitted.job.id)
    return submitted

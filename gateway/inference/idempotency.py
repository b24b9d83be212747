"""Idempotency keys: the same key and request name the same job, because the job's id is derived from the key.

So there is no lock that a dead process could hold: the first process to create the job wins. The record keeps the
request's fingerprint, and the idempotency key is in use for as long as the record exists.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import IdempotencyMismatch, InvalidRequest
from gateway.jobs.record import Job, new_job_id

#: Visible ASCII, as in any header.
_ALLOWED = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class IdempotencyToken:
    """An idempotency key with the fingerprint of its request."""

    key: str
    digest: str
    fingerprint: str

    @classmethod
    def for_request(
        cls, idempotency_key: str, *, key_id: str, kind: str, model: str, request: Mapping[str, Any]
    ) -> IdempotencyToken:
        """Raises: InvalidRequest if the idempotency key is not one. It is scoped by the API key."""
        if not _ALLOWED.fullmatch(idempotency_key):
            raise InvalidRequest(
                "Idempotency-Key must be 1 to 255 visible ASCII characters without spaces, for example a UUID.",
                reason="invalid_idempotency_key",
            )
        digest = hashlib.sha256(f"{key_id} {idempotency_key}".encode()).hexdigest()[:24]
        text = orjson.dumps([kind, model, request], option=orjson.OPT_SORT_KEYS)
        return cls(idempotency_key, digest, hashlib.sha256(text).hexdigest()[:32])

    def job_id(self, kind: str) -> str:
        """The id of the job that it names."""
        return new_job_id(kind, self.digest)

    def check(self, job: Job) -> None:
        """Raises: IdempotencyMismatch if the job was made for another request."""
        if job.fingerprint != self.fingerprint:
            raise IdempotencyMismatch(
                f"Idempotency-Key {self.key[:40]!r} was used with another request, which is job {job.id}. Send "
                "the same path and body to attach to it, or use a new key."
            )

"""How much one API key may ask for in any 60 s, exact over all processes: `limit.lua` decides.

A request reserves its prompt, estimated, and the longest answer it allows. Its end sets that to what it really used
(`gateway/jobs/ledger.py`). A charge counts for 60 s from when the request came, by Redis' clock.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import redis

from gateway.access.api_keys import KeyRecord
from gateway.errors import HeadraceError, InvalidRequest, RateLimited
from gateway.store import keys
from gateway.store.connection import NOT_NOW
from gateway.store.scripts import Scripts

log = logging.getLogger(__name__)

#: A reservation that has no job after this time was made by a process that has died.
RESERVATION_EXPIRY_MS = 5_000
#: About how many keys are looked at in one call, for such reservations.
KEYS_AT_ONCE = 500
#: The reason of a request that is larger than the limit of a whole minute.
TOO_MUCH = "request_exceeds_limit"
#: HTTP statuses of client errors: such requests count, though they make no job.
COUNTED = (400, 403, 404, 413, 415, 422)


@dataclass(frozen=True)
class Quota:
    """What a key has left. A limit of 0 means no limit."""

    limit_requests: int
    remaining_requests: int
    limit_tokens: int
    remaining_tokens: int
    #: Seconds until the whole limit is available again if no more requests come.
    reset_s: float

    def headers(self) -> dict[str, str]:
        """The headers that OpenAI's clients expect, without those of limits that the key does not have."""
        found: dict[str, str] = {}
        for unit, limit, remaining in (
            ("requests", self.limit_requests, self.remaining_requests),
            ("tokens", self.limit_tokens, self.remaining_tokens),
        ):
            if limit:
                values = {"limit": str(limit), "remaining": str(remaining), "reset": f"{self.reset_s:.3f}s"}
                found |= {f"x-ratelimit-{name}-{unit}": value for name, value in values.items()}
        return found


def _quota(key: KeyRecord, requests: int, tokens: int, reset_ms: int) -> Quota:
    """What a key has left that has used so much."""
    return Quota(
        limit_requests=key.requests_per_minute,
        remaining_requests=max(0, key.requests_per_minute - requests),
        limit_tokens=key.tokens_per_minute,
        remaining_tokens=max(0, key.tokens_per_minute - tokens),
        reset_s=reset_ms / 1000,
    )


class Limits:
    """Reserves what a request may use."""

    def __init__(self, client: redis.Redis, scripts: Scripts) -> None:
        self._redis = client
        self._scripts = scripts
        #: Where `reclaim_expired_reservations` goes on.
        self._cursor = 0

    def reserve(self, key: KeyRecord, job_id: str, tokens: int) -> Quota | None:
        """Charge the key for a job that is about to be made. Returns None, without a round trip, if it has no limits.

        Raises:
            RateLimited: the key has used up its minute.
            InvalidRequest: the job alone is more than a whole minute allows.
        """
        max_tokens = key.tokens_per_minute
        if not key.limited:
            return None
        if max_tokens and tokens > max_tokens:
            raise InvalidRequest(
                f"Prompt and answer may have {tokens} tokens together, but key {key.prefix}… is allowed {max_tokens} a "
                "minute. Lower max_tokens or n, or shorten the prompt.",
                reason="request_exceeds_limit",
            )
        return self._charge("reserve", key, job_id, tokens)

    def refuse(self, key: KeyRecord, error: HeadraceError) -> HeadraceError:
        """Count a request that is refused with this error. Returns the error to answer, which may be RateLimited."""
        if key.limited and error.http_status in COUNTED and error.reason != TOO_MUCH:
            try:
                self._charge("refused", key, f"refused-{secrets.token_hex(8)}", 0)
            except RateLimited as limited:
                return limited
            except NOT_NOW as away:
                log.warning("key %s: a refused request is not counted (%s)", key.id, away)
        return error

    def left(self, records: Sequence[KeyRecord]) -> dict[str, Quota]:
        """What these keys have left, by their ids, in one round trip. Those without limits are not in it."""
        limited = [key for key in records if key.limited]
        pipe = self._redis.pipeline(transaction=False)
        for key in limited:
            self._add(pipe, "look", key, "", 0)
        replies = self._scripts.execute(pipe) if limited else []
        return {key.id: _quota(key, *reply[1:4]) for key, reply in zip(limited, replies, strict=True)}

    def _add(self, pipe: redis.client.Pipeline, what: str, key: KeyRecord, name: str, tokens: int) -> None:
        limits = key.requests_per_minute, key.tokens_per_minute
        self._scripts.add(pipe, "limit", keys.limits(key.id), what, name, tokens, *limits)

    def _charge(self, what: str, key: KeyRecord, name: str, tokens: int) -> Quota:
        """Raises: RateLimited."""
        max_requests, max_tokens = key.requests_per_minute, key.tokens_per_minute
        pipe = self._redis.pipeline(transaction=False)
        pipe.sadd(keys.LIMITED, key.id)
        self._add(pipe, what, key, name, tokens)
        _, (over, requests, used, reset_ms, wait_ms) = self._scripts.execute(pipe)
        quota = _quota(key, requests, used, reset_ms)
        if not over:
            return quota
        wait_s = max(1, math.ceil(wait_ms / 1000))
        if over == "requests":
            text = f"Key {key.prefix}… is allowed {max_requests} requests a minute, and has made them."
        else:
            text = (
                f"Key {key.prefix}… is allowed {max_tokens} tokens a minute and has used or reserved {used}; "
                f"this request needs up to {tokens}."
            )
        raise RateLimited(
            f"{text} Try again in {wait_s} s.",
            reason=f"rate_limit_{over}",
            retry_after_s=wait_s,
            headers=quota.headers(),
        )

    def correct(self, key_id: str, job_id: str, *, reserved: int, tokens: int) -> None:
        """Charge what a job may really use, now that its prompt is counted, if that is more than was reserved.

        Raises: RateLimited if the key does not have that much left in its minute.
        """
        if not 0 < reserved < tokens:
            return
        over, wait_ms = self._scripts.run("limit", keys.limits(key_id), "correct", job_id, tokens)
        if over:
            wait_s = max(1, math.ceil(int(wait_ms) / 1000))
            raise RateLimited(
                f"This request needs up to {tokens} tokens, now that they are counted, which is more than its key has "
                f"left in this minute. Try again in {wait_s} s.",
                reason="rate_limit_tokens",
                retry_after_s=wait_s,
            )

    def reclaim_expired_reservations(self) -> None:
        """Release reservations whose job was never made, since the process that reserved has died: those of the next
        few hundred keys.

        If that process was only suspended, its job runs without a reservation, and the ledger still counts it.
        """
        scanned = self._redis.sscan(keys.LIMITED, self._cursor, count=KEYS_AT_ONCE)
        self._cursor, key_ids = cast("tuple[int, list[str]]", scanned)
        pipe = self._redis.pipeline(transaction=False)
        for key_id in key_ids:
            self._scripts.add(pipe, "limit", keys.limits(key_id), "reserved", RESERVATION_EXPIRY_MS)
        for key_id, job_ids in zip(key_ids, self._scripts.execute(pipe), strict=True):
            for job_id in job_ids:
                if not self._redis.exists(keys.job(job_id)):
                    self._scripts.run("limit", keys.limits(key_id), "expire", job_id)

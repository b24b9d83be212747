"""What has happened to a job, and when, in the document's words.

The scripts that move it note it (`note` in `gateway/store/lua/lib.lua`). It is kept as long as the job, and holds
nothing of its prompt and answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from gateway.access.api_keys import KeyRecord
from gateway.errors import Unreadable
from gateway.inference.service import Inference
from gateway.jobs.record import Job, JobState
from gateway.store import keys
from gateway.store.checks import is_time
from gateway.store.codec import MAX_COUNT, loads
from gateway.store.unreadable import readable, reading
from gateway.views.jobs import summary
from schemas.base.times import iso

#: Ends, and the document's words for them.
ENDS = {state.value: state.word for state in JobState if state.ended}


@dataclass(frozen=True)
class Entry:
    """`at` is ms since the epoch, by Redis' clock. `what` and its details:

    - `queued`: `position` in the line (0: it stands in none);
    - `claimed`: by `worker`, for `model`, under `claim`, behind `behind_tokens` that other claims have made;
    - `first_token` of a claim, and `batch`, a new size of it: `batch` sequences;
    - `interrupted`: `cause` as in `Cause`, after so many `tokens` of the claim, whose worker was not heard of for
      `silent_s` before; `handed_over`: to `model`;
    - `cancelling`, then one of `done`, `failed`, `cancelled`.
    """

    at: int
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """A detail that is a number which can be; 0 if it is none."""
        value = self.details.get(name)
        return value if isinstance(value, int | float) and 0 <= value <= MAX_COUNT else 0


def timeline(inference: Inference, job_id: str, *, key: KeyRecord) -> dict[str, Any]:
    """All that has happened to a job, and what it adds up to. Raises: JobNotFound."""
    job = inference.get(job_id, key=key)
    entries = read_timeline(inference.store.redis, job_id)
    until_ms = job.finished_at or inference.store.clock.estimated_now_ms()
    details = job.usage.get("prompt_tokens_details")
    return {
        **summary(job, inference.settings.root_path),
        "prompt_tokens": _prompt_tokens(inference, job),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
        "waited_s": _seconds(job.created_at, job.started_at),
        "first_token_s": _seconds(job.created_at, _first(entries, "first_token")),
        "elapsed_s": _seconds(job.created_at, until_ms),
        "paused_s": _paused_s(entries, now_ms=until_ms),
        "replayed_tokens": sum(int(entry.number("behind_tokens")) for entry in entries if entry.what == "claimed"),
        "timeline": [_shown(job, entry) for entry in entries],
    }


def _shown(job: Job, entry: Entry) -> dict[str, Any]:
    after_s = _seconds(job.created_at, entry.at)
    return {"at": iso(entry.at), "after_s": after_s, **entry.details, "what": ENDS.get(entry.what, entry.what)}


def _prompt_tokens(inference: Inference, job: Job) -> int | None:
    """From its end; while it runs, from the first entry of its journal."""
    if "prompt_tokens" in job.usage:
        return job.usage["prompt_tokens"]
    first = inference.store.journals.read(job.id, count=1)
    return first[0].body.get("prompt_tokens") if first else None


def _paused_s(entries: Sequence[Entry], *, now_ms: int) -> float:
    """How long it stood still in all: from the last that was heard before each interruption, to the next token, the end
    or now.
    """
    paused, since = 0, 0
    for entry in entries:
        if entry.what == "interrupted":
            since = since or entry.at - int(1000 * entry.number("silent_s"))
        elif since and entry.what in ("first_token", *ENDS):
            paused, since = paused + entry.at - since, 0
    return (paused + (max(0, now_ms - since) if since else 0)) / 1000


def _first(entries: Sequence[Entry], what: str) -> int:
    return next((entry.at for entry in entries if entry.what == what), 0)


def _seconds(since: int, at: int) -> float | None:
    return max(0, at - since) / 1000 if since and at else None


def read_timeline(client: redis.Redis, job_id: str) -> list[Entry]:
    """All of it, oldest first; none for a job of an older version. An entry that can't be read is left out.

    Raises: Unreadable; NOT_NOW.
    """
    name = f"The timeline of job {job_id}"
    with reading(name):
        raw = cast("list[str]", client.lrange(keys.timeline(job_id), 0, -1))
    return [entry for _, entry in readable(((f"{name}, entry {i}", text) for i, text in enumerate(raw)), _entry)]


def _entry(text: str) -> Entry:
    """Raises: Unreadable."""
    try:
        details = dict(loads(text))
        at, what = details.pop("at"), str(details.pop("what"))
    except (ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"It is {text!r:.80}.") from error
    if not is_time(at):
        raise Unreadable(f"Its time is {at!r:.80}.")
    return Entry(at, what, details)

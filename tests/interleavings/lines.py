"""What must hold of the lines and of the slots at any moment, whatever went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import redis

from gateway.jobs.record import JobState
from gateway.store import keys
from tests.interleavings.processes import MODELS
from tests.interleavings.replica import ReplicaProcess

#: A release is written before the line: if its process dies in between, the keeper looks at the job after 2 s.
MAX_ROUNDS = 4
FAIR = ("interactive", "background")


class LinesWatch:
    """Looks at the lines of all models, and remembers who is missing there."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        #: In how many rounds of a keeper a waiting job was in no line.
        self._missing: Counter[str] = Counter()

    def disturbed(self) -> None:
        """Keepers had no chance to repair anything."""
        self._missing.clear()

    def after_round(self) -> list[str]:
        """A keeper has looked at everything. Who has waited in no line for too long."""
        absent = self._waiting() - self._places().keys()
        self._missing = Counter({job_id: self._missing[job_id] + 1 for job_id in absent})
        return [f"{job_id} waits, and is offered to nobody" for job_id, n in self._missing.items() if n > MAX_ROUNDS]

    def doubled(self) -> list[str]:
        """Who waits at several places at once, and so would be offered twice."""
        places = self._places()
        return [f"{i} waits in {places[i]}" for i in self._waiting() & places.keys() if len(places[i]) > 1]

    def overdue(self, model: str, now_ms: int) -> list[str]:
        """Offers that have ended, and are offered to nobody else. None is there once a replica has asked."""
        late = self._redis.zrangebyscore(f"{keys.lines(model)}:offered", "-inf", now_ms)
        return [f"the offer {one} has ended and stands nowhere" for one in late]

    def left(self) -> list[str]:
        """What stands in a line, is offered, or has no end, though all jobs have ended and all offers, too."""
        found = []
        for key in sorted(map(str, self._redis.keys(f"{keys.lines('*')}:*"))):
            if key.endswith((":served", ":openings")) or ":promises:" in key:
                found += [f"{key} has no TTL"] if self._redis.pttl(key) < 0 else []
            else:
                found.append(f"{key} still has {self._redis.zrange(key, 0, -1)}")
        return found

    def _waiting(self) -> set[str]:
        jobs = [str(key)[4:-1] for key in self._redis.keys("hr:{*}")]
        return {job_id for job_id in jobs if self._redis.hget(keys.job(job_id), "state") == JobState.QUEUED}

    def _places(self) -> dict[str, list[str]]:
        """By job: where it will be offered from. A job whose API key stands in no list of keys will not be."""
        found: dict[str, list[str]] = {}
        for base in map(keys.lines, MODELS):
            members = [(f"{base}:offered", *one.split(":", 1)) for one in self._redis.zrange(f"{base}:offered", 0, -1)]
            for line in ("first", "quarantined", *FAIR):
                members += [(f"{base}:{line}", line, one) for one in self._redis.zrange(f"{base}:{line}", 0, -1)]
            for where, line, member in members:
                is_kept = where.endswith(":offered") or line not in FAIR
                if is_kept or self._redis.zscore(f"{where}:keys", member.split("|", 1)[0]) is not None:
                    found.setdefault(member.rsplit("|", 1)[1], []).append(where)
        return found


def leaks(workers: Sequence[ReplicaProcess]) -> list[str]:
    """Slots that are held by no job that the worker holds, and jobs without slots, of workers that are at rest."""
    broken = []
    for worker in workers:
        held = {run: run.job.slots for run in worker.journaler.held}
        if not worker.busy and worker.replica.slots_held() != held:
            broken.append(f"{worker.name} holds {held}, its slots are held by {worker.replica.slots_held()}")
    return broken


def running_twice(workers: Sequence[ReplicaProcess]) -> list[str]:
    """Claims that several workers hold."""
    claims = Counter(run.job.claim for worker in workers for run in worker.journaler.held)
    return [f"the claim {claim} is held {count} times" for claim, count in claims.items() if count > 1]

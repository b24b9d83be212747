"""The ledger: tokens and cost of each API key, model and hour, each job counted once, when it has ended.

A job counts for the hour in which it was made, at the price that its record has kept. Costs are whole numbers of
10^-12 of the currency, so that sums are exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis

from gateway.errors import InvalidRequest, Unreadable
from gateway.jobs.record import AGENT_KINDS, Job, JobHead
from gateway.models.entry import Pricing
from gateway.store import keys
from gateway.store.scripts import Scripts
from gateway.store.unreadable import leaving_out, readable

#: How many days of the ledger can be read; `settle.lua` keeps as many.
LEDGER_DAYS = 400
#: The parts in one unit of a currency.
PICO = 10**12
_TOO_MUCH = "too much for one report: name a key or a model, or a shorter time with 'from' and 'to'."
_COUNTS = ("jobs", "prompt_tokens", "completion_tokens", "cost")
_ENTRY = re.compile(r"(?P<hour>[01]\d|2[0-3]) (?P<name>\w+) (?P<currency>\S*) (?P<model>.+)", re.DOTALL)
#: Hashes read in one round trip, hashes that one report reads, and rows that it has.
_BATCH, MAX_HASHES, MAX_ROWS = 1_000, 400_000, 50_000


@dataclass(frozen=True)
class Usage:
    """What one key used of one model. `day`: in UTC, as `2026-01-31`; empty: in the whole time of a report."""

    day: str
    key_id: str
    model: str
    currency: str
    jobs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_pico: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> float:
        """In units of the currency."""
        return self.cost_pico / PICO

    def counts(self) -> dict[str, int]:
        """The counters."""
        return {
            "jobs": self.jobs,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    def to_public(self) -> dict[str, Any]:
        """As clients see it."""
        return {
            "day": self.day or None,
            "key_id": self.key_id,
            "model": self.model,
            **self.counts(),
            "cost": self.cost,
            "currency": self.currency,
        }


def total(rows: Sequence[Usage]) -> dict[str, Any]:
    """The sum of all rows, with the cost in each currency."""
    currencies = sorted({row.currency for row in rows})
    costs = {name: sum(row.cost_pico for row in rows if row.currency == name) / PICO for name in currencies}
    counts = [row.counts() for row in rows]
    return {**{name: sum(row[name] for row in counts) for name in Usage("", "", "", "").counts()}, "cost": costs}


def price(pricing: Pricing) -> str:
    """A price as the job record keeps it: per input token, per output token, currency."""
    each = (round(per_1k * PICO / 1000) for per_1k in (pricing.input_per_1k_tokens, pricing.output_per_1k_tokens))
    return " ".join([*map(str, each), pricing.currency])


def cost_pico(job_price: str, usage: Mapping[str, int]) -> int:
    """The cost of this usage at the job's price."""
    price_in, price_out, _ = job_price.split(" ", 2)
    return int(price_in) * usage.get("prompt_tokens", 0) + int(price_out) * usage.get("completion_tokens", 0)


class Ledger:
    """Writes the usage of ended jobs, and reports it."""

    def __init__(self, client: redis.Redis, scripts: Scripts) -> None:
        self.redis = client
        self._scripts = scripts

    def opens(self, job: Job) -> list[str]:
        """The keys of sets that hold a job until it is settled; none for deployments, which cost nothing."""
        return [] if job.kind in AGENT_KINDS else [keys.open_jobs(job.key_id)]

    def drop(self, pipe: redis.client.Pipeline, key_id: str, job_ids: Sequence[str]) -> None:
        """Uncount the requests of jobs whose records are gone."""
        self._scripts.add(pipe, "stored", [keys.stored(key_id)], *job_ids)

    def entry(self, job: JobHead, usage: Mapping[str, int]) -> tuple[list[str], int, list[str | int]]:
        """What `settle.lua` counts of an ended job: the keys of its API key, all its tokens, then field, count, ..."""
        made = datetime.fromtimestamp(job.created_at / 1000, UTC)
        names = [*keys.limits(job.key_id), keys.usage(job.key_id, f"{made:%Y-%m-%d}")]
        if job.kind in AGENT_KINDS:
            return names, 0, []
        job_price = job.price or price(Pricing())
        prefix, suffix = f"{made:%H} ", f" {job_price.split(' ', 2)[2]} {job.model}"
        counts = {
            "jobs": 1,
            "prompt_tokens": usage.get("prompt_tokens", 0),
            "completion_tokens": usage.get("completion_tokens", 0),
            "cost": cost_pico(job_price, usage),
        }
        fields = [part for name, count in counts.items() if count for part in (prefix + name + suffix, count)]
        return names, counts["prompt_tokens"] + counts["completion_tokens"], fields

    def refund(self, pipe: redis.client.Pipeline, job: Job) -> None:
        """Remove the reservation: the job was never made."""
        self._scripts.add(pipe, "limit", keys.limits(job.key_id), "refund", job.id)

    def report(
        self,
        key_ids: Sequence[str],
        *,
        start: datetime,
        end: datetime,
        model: str | None = None,
        by_day: bool = False,
    ) -> list[Usage]:
        """The usage of these keys from the hour of `start` up to `end`, by key, model and currency; and by day.

        Raises: InvalidRequest if that is too much.
        """
        first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        days = [first.date() + timedelta(days=i) for i in range((end.astimezone(UTC).date() - first.date()).days + 1)]
        if len(key_ids) * len(days) > MAX_HASHES:
            raise InvalidRequest(f"{len(key_ids)} keys over {len(days)} days are {_TOO_MUCH}")
        hashes = [(key_id, f"{day}") for key_id in key_ids for day in days]
        sums: dict[tuple[str, str, str, str], dict[str, int]] = {}
        for key_id, day, raw in self._read(hashes):
            ledger = f"of key {key_id} in the ledger of {day}"
            named = [(f"The entry {pair[0]!r:.80} {ledger}", pair) for pair in raw.items()]
            for _, (hour, name, currency, of_model, count) in readable(named, _entry):
                if model in (None, of_model) and first <= datetime.fromisoformat(f"{day}T{hour}:00Z") < end:
                    group = (day if by_day else "", key_id, of_model, currency)
                    sums.setdefault(group, dict.fromkeys(_COUNTS, 0))[name] += count
            if len(sums) > MAX_ROWS:
                raise InvalidRequest(f"More than {MAX_ROWS} rows are {_TOO_MUCH}")
        return [Usage(*group, *row.values()) for group, row in sorted(sums.items())]

    def _read(self, hashes: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str, dict[str, str]]]:
        for at in range(0, len(hashes), _BATCH):
            pipe = self.redis.pipeline(transaction=False)
            batch = hashes[at : at + _BATCH]
            for key_id, day in batch:
                pipe.hgetall(keys.usage(key_id, day))
            for (key_id, day), raw in zip(batch, pipe.execute(raise_on_error=False), strict=True):
                with leaving_out(f"The ledger of key {key_id} for {day}"):
                    if isinstance(raw, Exception):
                        raise raw
                    yield key_id, day, cast("dict[str, str]", raw)


def _entry(pair: tuple[str, str]) -> tuple[str, str, str, str, int]:
    """Hour, counter, currency, model and count. Raises: Unreadable."""
    found = _ENTRY.fullmatch(pair[0])
    if found is None or found["name"] not in _COUNTS or not re.fullmatch(r"-?\d{1,18}", pair[1]):
        raise Unreadable(f"It counts {pair[1]!r:.40}.")
    return found["hour"], found["name"], found["currency"], found["model"], int(pair[1])

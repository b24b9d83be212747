"""Clients that come by themselves, whatever the server does (an open loop): when they come, and what became of them.

All of it is pure. Times are seconds from the start of a run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.workload import percentile

#: An answer whose first token comes within so long of its request is a good one.
GOOD_S = 2.0


@dataclass(frozen=True)
class Client:
    """When it comes, who it is, what it asks, and whether it comes back when a refusal tells it to."""

    at_s: float
    key: str
    body: Mapping[str, Any]
    obeys: bool = False


@dataclass
class Refusal:
    """An answer without a stream: how long it took, and when to come back by it (None: it does not say)."""

    status: int
    took_s: float
    retry_after_s: float | None = None


@dataclass
class Visit:
    """What became of a client by the end of the run."""

    #: When its last try was due: what it waits is counted from here, even if the load generator was late.
    due_s: float
    tries: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    #: A try was taken; when its first token and its end came, if they did.
    admitted: bool = False
    first_s: float | None = None
    ended_s: float | None = None
    tokens: int = 0
    #: Until when the run went on.
    until_s: float = 0.0
    #: How late the load generator was, at worst.
    late_s: float = 0.0
    #: Why a stream broke off; empty: it did not.
    broken: str = ""

    @property
    def good(self) -> bool:
        """It began in time, and did not break."""
        return self.first_s is not None and self.wait_s <= GOOD_S and not self.broken

    @property
    def wait_s(self) -> float:
        """Time to first token. Who had none when the run ended has waited until then, at least."""
        return (self.until_s if self.first_s is None else self.first_s) - self.due_s

    def share_within(self, begin_s: float, end_s: float) -> float:
        """How much of the time from its first token to its end lies within a window, 0 to 1."""
        if self.first_s is None or self.ended_s is None:
            return 0.0
        if self.first_s == self.ended_s:
            return float(begin_s <= self.first_s < end_s)
        within_s = min(self.ended_s, end_s) - max(self.first_s, begin_s)
        return max(0.0, within_s) / (self.ended_s - self.first_s)


def poisson(rate: float, duration_s: float, rng: random.Random) -> list[float]:
    """Times of arrivals within the duration, `rate` a second, each independent of all others."""
    times: list[float] = []
    at_s = rng.expovariate(rate)
    while at_s < duration_s:
        times.append(at_s)
        at_s += rng.expovariate(rate)
    return times


def ms(seconds: Sequence[float], share: float) -> float | None:
    """A percentile in ms; None of nothing."""
    return 1000 * percentile(seconds, share) if seconds else None


def latency(visits: Sequence[Visit]) -> dict[str, Any]:
    """Time to first token of all that were not refused, and how many have none."""
    waits = [visit.wait_s for visit in visits if visit.admitted or not visit.refusals]
    return {
        "arrivals": len(visits),
        "ttft_p50_ms": ms(waits, 0.5),
        "ttft_p99_ms": ms(waits, 0.99),
        "refused": sum(bool(visit.refusals) for visit in visits),
        "unserved": sum(visit.admitted and visit.first_s is None for visit in visits),
        "broken": sum(bool(visit.broken) for visit in visits),
        "generator_late_p99_ms": ms([visit.late_s for visit in visits], 0.99),
    }


def compared(alone: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    """Two latencies, and how many times the first the second is."""
    ratios: dict[str, float | None] = {}
    for name in ("ttft_p50", "ttft_p99"):
        before, after = alone[f"{name}_ms"], beside[f"{name}_ms"]
        ratios[f"{name}_ratio"] = after / before if before and after else None
    return {"alone": alone, "beside": beside, **ratios}


def goodput_share(visits: Sequence[Visit]) -> float:
    """Good answers, of all that arrived."""
    return sum(visit.good for visit in visits) / len(visits)


def goodput_per_s(visits: Sequence[Visit], begin_s: float, end_s: float) -> float:
    """Good answers a second, by when their first token came. `begin_s` leaves out how empty slots fill."""
    return sum(visit.good and begin_s <= (visit.first_s or 0) < end_s for visit in visits) / (end_s - begin_s)


def refusals(visits: Sequence[Visit]) -> dict[str, Any]:
    """How the refused fared. `not_back_yet`: those that the run's end was too early for; they are in no share."""
    refused = [visit for visit in visits if visit.refusals]
    back = [visit for visit in refused if visit.tries > 1]
    told = [refusal.retry_after_s for visit in refused for refusal in visit.refusals]
    seconds = [retry_s for retry_s in told if retry_s is not None]
    return {
        "refused": len(refused),
        "statuses": sorted({refusal.status for visit in refused for refusal in visit.refusals}),
        "refused_after_p99_ms": ms([refusal.took_s for visit in refused for refusal in visit.refusals], 0.99),
        "without_retry_after": told.count(None),
        "retry_after_p50_s": percentile(seconds, 0.5) if seconds else None,
        "retry_after_max_s": max(seconds, default=None),
        "not_back_yet": len(refused) - len(back),
        "first_retry_share": sum(v.admitted and v.tries == 2 for v in back) / len(back) if back else None,
        "most_tries": max((visit.tries for visit in visits), default=0),
        "never_in": sum(not visit.admitted for visit in back),
    }


def tokens_per_s(visits: Sequence[Visit], begin_s: float, end_s: float) -> float:
    """Tokens a second within a window, of the streams that have ended.

    Each stream's tokens count as coming evenly from its first to its end, so that it does not matter whether answers
    end together.
    """
    return sum(visit.tokens * visit.share_within(begin_s, end_s) for visit in visits) / (end_s - begin_s)


def answers_per_s(visits: Sequence[Visit], begin_s: float, end_s: float) -> float:
    """Answers a second within a window, by the tokens that they have on average."""
    ended = [visit.tokens for visit in visits if visit.ended_s is not None]
    return tokens_per_s(visits, begin_s, end_s) * len(ended) / max(1, sum(ended))

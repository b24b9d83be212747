"""What every contestant is asked, and how a run is summed up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

MODEL = "smollm2-135m"
#: Tokens of one answer. Greedy, so that all contestants make much the same text.
MAX_TOKENS = 128
_SUBJECTS = ("rivers", "mills", "valleys", "canals", "turbines", "wheels", "springs", "dams")


def prompts(count: int, salt: int) -> list[str]:
    """Prompts of about 30 tokens, of which no two are equal, so that a prefix cache helps nobody."""
    return [
        f"{salt}.{i} Write a long and detailed story about the {_SUBJECTS[i % 8]} near town number {salt * 100 + i}, "
        "with many people in it. Tell it slowly."
        for i in range(count)
    ]


@dataclass
class Sample:
    """One stream: when it was sent, when each piece arrived (seconds), and how many tokens it had."""

    sent: float
    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Throughput over the whole run; latencies in ms."""
    begin, end = min(s.sent for s in samples), max(s.arrivals[-1] for s in samples)
    tokens = sum(s.tokens for s in samples)
    first = [1000 * (s.arrivals[0] - s.sent) for s in samples]
    gaps = [1000 * (b - a) for s in samples for a, b in zip(s.arrivals, s.arrivals[1:], strict=False)]
    return {
        "tokens": tokens,
        "seconds": end - begin,
        "tokens_per_s": tokens / (end - begin),
        "ttft_p50_ms": statistics.median(first),
        "ttft_p99_ms": percentile(first, 0.99),
        "gap_p50_ms": statistics.median(gaps) if gaps else float("nan"),
        "gap_p99_ms": percentile(gaps, 0.99),
    }

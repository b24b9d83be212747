"""Contestants take turns in each round, so that a noisy machine is noisy for all; ratios are medians over rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.bench.workload import prompts

#: One stream has so many times the rounds: it is over soon, and brings a single time to first token.
ALONE_ROUNDS = 4
#: Before each turn: threads of the libraries of the one before spin on for a while, and would take its processors.
REST_S = 1.5
#: What contestants are compared by.
COMPARED = ("tokens_per_s", "ttft_p50_ms")

#: Asks a contestant all prompts at once; returns what was measured.
Run = Callable[[list[str]], dict[str, Any]]
Measured = Sequence[Mapping[str, Any]]


def compare(
    contestants: Mapping[str, Run], streams: Sequence[int], rounds: int, *, against: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The figures of each by the number of streams, also as ratios to those of some of them."""
    results: dict[str, dict[str, Any]] = {}
    for count in streams:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for turn in range((rounds * ALONE_ROUNDS if count == 1 else rounds) + 1):
            # Prompts of its own for each, since our two faces ask one engine, whose prefix cache would help the second.
            asked = [
                (name, run, prompts(count, salt=count * 10 + turn + 1000 * i))
                for i, (name, run) in enumerate(contestants.items())
            ]
            for name, run, texts in asked if turn % 2 else asked[::-1]:
                time.sleep(REST_S)
                measured = run(texts)
                if turn:  # the first turn warms up
                    runs[name].append(measured)
        for name, own in runs.items():
            entry = figures(own) | {"against": {other: ratios(own, runs[other]) for other in against}}
            results.setdefault(name, {})[str(count)] = entry
            show(name, count, entry)
    return results


def figures(runs: Measured) -> dict[str, Any]:
    """The median of each figure; of CPU seconds, what a token took in each process."""
    entry: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "cpu_s"}
    if "cpu_s" in runs[0]:
        total = sum(run["tokens"] for run in runs)
        entry["cpu_ms_per_token"] = {p: 1000 * sum(run["cpu_s"][p] for run in runs) / total for p in runs[0]["cpu_s"]}
    return entry


def ratios(runs: Measured, others: Measured) -> dict[str, float]:
    """What is compared, by that of another contestant in the same round: medians over the rounds."""
    return {
        key: statistics.median(run[key] / other[key] for run, other in zip(runs, others, strict=True))
        for key in COMPARED
    }


def show(name: str, count: int, entry: Mapping[str, Any]) -> None:
    """One line of the table."""
    shares = "  ".join(f"x{ratio['tokens_per_s']:.2f}" for ratio in entry["against"].values())
    line = (
        f"{name:22} {count:3} streams  {entry['tokens_per_s']:7.0f} tok/s  {shares}"
        f"  ttft {entry['ttft_p50_ms']:6.0f}/{entry['ttft_p99_ms']:6.0f} ms"
        f"  gap {entry['gap_p50_ms']:5.1f}/{entry['gap_p99_ms']:6.1f} ms"
    )
    if cpu := entry.get("cpu_ms_per_token"):
        line += "  cpu ms/token " + " ".join(f"{part}={ms:.3f}" for part, ms in cpu.items())
    print(line, flush=True)

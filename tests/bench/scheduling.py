"""`make bench ARGS="--only scheduling"`: how long people wait beside work that could wait, and what the queue costs.

Each scenario compares within one run: with and without a backlog, a load with the capacity that was measured just
before. What the product does not have is reported as it is seen.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench import interactive_load, queue_cost
from tests.bench.checkout import checkouts
from tests.bench.headrace import contestant, headrace
from tests.bench.loaded_stack import LoadedStack
from tests.bench.long_prompts import alone_per_min, beside_a_stream
from tests.bench.scheduling_page import lines
from tests.bench.server import Helper
from tests.bench.workload import MODEL
from tests.stack import Stack

#: Those that ask the real model, which one stack serves for all of them.
REAL = {
    "backlog": interactive_load.backlog,
    "nearly_full": interactive_load.nearly_full,
    "overload": interactive_load.overload,
    "flood": interactive_load.flood,
    "estimates": queue_cost.estimates,
}
#: The fake engine, about as fast as the real model on two cores.
FAKE = {"step_s": 0.05, "prefill_s": 0.01}
SCENARIOS = (*REAL, "long_prompts", "one_token_jobs", "replicas", "keeper")


@contextlib.contextmanager
def stack_of(model: str, options: dict[str, Any] | None = None, **settings: Any) -> Iterator[Stack]:
    """A stack with the product's own limits, unless settings say otherwise."""
    common = {"log_level": "warning", "lease_s": 5.0, "grace_s": 10.0}
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        stack = Stack(Path(folder) / "s", **common, **settings)
        try:
            stack.up({model: options or {}})
            yield stack
        finally:
            stack.close()


def measure(only: Sequence[str], *, model: str = MODEL, against: Path | None, quick: bool) -> dict[str, Any]:
    """The figures of these scenarios, all if none is named. `model`: the one that is asked; the fake one keeps time
    where others use the processors.
    """
    chosen = [name for name in SCENARIOS if not only or name in only]
    results: dict[str, Any] = {}
    with contextlib.closing(Helper("tests.bench.open_load")) as load:
        for name, found in _measured(chosen, load, model=model, against=against, quick=quick):
            results[name] = found
            print(f"{name}: {found}", flush=True)
    print("\n".join(lines(results)), flush=True)
    return results


def _measured(
    chosen: Sequence[str], load: Helper, *, model: str, against: Path | None, quick: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    if real := [name for name in chosen if name in REAL]:
        with stack_of(model, FAKE if model == "fake" else None) as stack:
            bench = LoadedStack(stack, model, load, quick)
            bench.capacity()  # warms up
            for name in real:
                yield name, REAL[name](bench)
    if "long_prompts" in chosen:
        yield "long_prompts", long_prompts(against, quick=quick)
    if "one_token_jobs" in chosen:
        yield "one_token_jobs", queue_cost.one_token_jobs(load, against, quick=quick)
    if "replicas" in chosen:
        options = {"step_s": queue_cost.STEP_S}
        with stack_of("fake", options, max_batch_size=queue_cost.SLOTS) as stack:
            yield "replicas", queue_cost.replicas(stack, load, quick=quick)
    if "keeper" in chosen:
        with stack_of("fake", {"step_s": 1.0}, background_queue_limit=200_000, key_max_jobs=0) as stack:
            yield "keeper", queue_cost.keeper(stack, quick=quick)


def long_prompts(against: Path | None, *, quick: bool) -> dict[str, Any]:
    """A long prompt beside a running stream and short ones: the stream's gaps, how long the short ones wait, and how
    many long prompts a minute there are when nobody else comes, here and in another checkout.
    """
    with headrace(MODEL) as stack:
        found = beside_a_stream(contestant(stack), rounds=1 if quick else 3)
    beside = found["beside_1"]
    gaps = {name: beside[name] for name in ("gap_p50_ms", "gap_p99_ms", "short_ttft_p50_ms", "long_ttft_ms")}
    with checkouts(against, MODEL, log_level="warning") as servers:
        rates = alone_per_min(servers, f"/models/{MODEL}/chat/completions", rounds=2 if quick else 6)
    pairs = zip(rates["this"], rates.get("other", ()), strict=False)
    ratios = [ours / theirs for ours, theirs in pairs]
    return {
        **gaps,
        "short_ttft_ms": beside["short_ttft_max_ms"],
        "alone_per_min": statistics.median(rates["this"]),
        **({"alone_ratio": statistics.median(ratios)} if ratios else {}),
    }

"""What the gateway itself takes for a token: its CPU behind an engine that only keeps time."""

from __future__ import annotations

from typing import Any

from tests.bench.server import Helper, Server
from tests.bench.workload import prompts

#: Streams at once, and tokens a second of each: 1,280 and 10,240 tokens/s.
LOADS = {32: 40, 128: 80}
#: What does not belong to the gateway.
OTHERS = ("engine", "load generator")


def cost(server: Server, load: Helper, streams: int, rounds: int) -> dict[str, Any]:
    """CPU of each process in ms a token, their sum, and the frames' distance; over all rounds, after one to warm up."""
    runs = [server.run(load, prompts(streams, salt=turn)) for turn in range(rounds + 1)][1:]
    tokens = sum(run["tokens"] for run in runs)
    parts = {part: 1000 * sum(run["cpu_s"][part] for run in runs) / tokens for part in runs[0]["cpu_s"]}
    entry = {
        "tokens_per_s": tokens / sum(run["seconds"] for run in runs),
        "gap_p50_ms": runs[-1]["gap_p50_ms"],
        "cpu_ms_per_token": parts,
        "sum_ms_per_token": sum(ms for part, ms in parts.items() if part not in OTHERS),
    }
    rate, total = entry["tokens_per_s"], entry["sum_ms_per_token"]
    each = " ".join(f"{part}={ms:.3f}" for part, ms in parts.items())
    print(f"{server.name} alone, {streams} streams: {rate:.0f} tok/s, {total:.3f} ms a token: {each}", flush=True)
    return entry

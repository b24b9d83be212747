"""The table of docs/engines.md by which the default engine of a CPU is chosen: `tests/bench/on_vllm.py` measures it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.made_parts import put

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def table(results: Mapping[str, Any]) -> str:
    """In Markdown: tokens a second, and the time to first token."""
    streams = list(next(iter(results.values())))
    shown = [f"| streams | {' | '.join(streams)} |", "|---" * (len(streams) + 1) + "|"]
    for name, entries in results.items():
        cells = [f"{entry['tokens_per_s']:,.0f} tokens/s, {entry['ttft_p50_ms']:,.0f} ms" for entry in entries.values()]
        shown.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(shown) + "\n"


def write(results: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the table into the page, if there are results."""
    if results:
        put(page, "speed", table(results))

"""The table of docs/scheduling.md: what was promised, and what `tests/bench/scheduling.py` has measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.made_parts import put

PAGE = Path(__file__).parents[2] / "docs" / "scheduling.md"


@dataclass(frozen=True)
class Row:
    """One figure: where it is in the results, how it is shown, and what was promised."""

    scenario: str
    figure: str
    text: str
    form: str
    at_most: float | None = None
    at_least: float | None = None

    def value(self, results: Mapping[str, Any]) -> float | None:
        """The figure; None if it was not measured."""
        found: Any = results.get(self.scenario)
        for name in self.figure.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        value: float | None = found
        return value

    def promise(self) -> str:
        """In words."""
        if self.at_most is not None:
            return f"at most {self.form.format(self.at_most)}"
        return "" if self.at_least is None else f"at least {self.form.format(self.at_least)}"

    def kept(self, value: float) -> bool:
        """Whether the figure is as promised."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


TIMES, MS, SHARE, SECONDS, PER_MIN = "{:.2f} times", "{:,.0f} ms", "{:.0%}", "{:.1f} s", "{:.1f} a minute"
ROWS = (
    Row("backlog", "ttft_p50_ratio", "50% load beside 200 background jobs: TTFT p50, against none waiting", TIMES, 1.5),
    Row("backlog", "ttft_p99_ratio", "the same, p99", TIMES, 2),
    Row("backlog", "beside.ttft_p99_ms", "the same, p99 itself", MS),
    Row("backlog", "beside.refused", "refused of them", "{:.0f}", 0),
    Row("backlog", "background_of_spare", "background tokens meanwhile, of what interactive load leaves", SHARE),
    Row("backlog", "background_of_idle", "background tokens when nobody else is there, of capacity", SHARE, None, 0.9),
    Row("nearly_full", "ttft_p99_ms", "90% load: TTFT p99", MS, 2000),
    Row("nearly_full", "goodput_share", "first token within 2 s, of what arrives", SHARE, None, 0.9),
    Row("overload", "goodput_of_capacity", "150% load: first token within 2 s, of capacity", SHARE, None, 0.85),
    Row("overload", "first_retry_share", "the refused who obey: in at their first retry", SHARE, None, 0.8),
    Row("overload", "without_retry_after", "refused without a time to come back", "{:.0f}", 0),
    Row("overload", "refused_after_p99_ms", "refused within (p99)", MS),
    Row("overload", "most_tries", "tries of the unluckiest", "{:.0f}"),
    Row("flood", "ttft_p50_ratio", "A request a second beside another key's 500: TTFT p50, against none", TIMES, 2),
    Row("flood", "beside.refused", "refused of them", "{:.0f}", 0),
    Row("long_prompts", "gap_p99_ms", "A prompt of 6,100 tokens: a running stream's gap p99", MS, 200),
    Row("long_prompts", "short_ttft_ms", "a short prompt's TTFT behind it", MS, 600),
    Row("long_prompts", "alone_per_min", "long prompts a minute, when nobody else comes", PER_MIN),
    Row("long_prompts", "alone_ratio", "the same, against before", SHARE, None, 0.9),
    Row("one_token_jobs", "this_jobs_per_s", "One-token jobs, 32 clients", "{:.0f} jobs/s"),
    Row("one_token_jobs", "ratio", "the same, against before", TIMES, None, 2),
    Row("replicas", "worst_efficiency", "1 to 4 replicas: throughput, of so many times one's", SHARE, None, 0.95),
    Row("estimates", "error_share", "ETA: error, of the wait", SHARE),
    Row("estimates", "error_p90_s", "ETA: error p90", SECONDS),
    Row("keeper", "round_max_ms", "A round of the keeper, 100,000 jobs waiting, at most", MS, 50),
)  # fmt: skip


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal: what was measured, and what is not as promised."""
    for row in ROWS:
        if (value := row.value(results)) is not None:
            verdict = "" if row.kept(value) else "  NOT KEPT"
            yield f"{row.scenario:15} {row.text:85} {row.form.format(value):>12}  {row.promise()}{verdict}"


def table(results: Mapping[str, Any], rows: Sequence[Row] = ROWS) -> str:
    """In Markdown."""
    shown = ["| | measured | goal |", "|---|---|---|"]
    for row in rows:
        if (value := row.value(results)) is not None:
            shown.append(f"| {row.text} | {row.form.format(value)} | {row.promise()} |")
    return "\n".join(shown) + "\n"


def write(results: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the table into the page, between its marks, if there is one."""
    if page.exists():
        put(page, "scheduling", table(results))

"""What came of each row: counts for docs/faults.json, a table for docs/faults.md, lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[3] / "docs"
JSON, PAGE = DOCS / "faults.json", DOCS / "faults.md"
#: A stream whose next token comes later than this after the fault is late; a new request is served in this time.
LATE_S = 10.0
#: Counts that must be zero, and how the table calls them.
ZEROS = {
    "lost": "lost",
    "duplicated": "twice",
    "late": "late",
    "left_behind": "left behind",
    "not_ended": "not ended",
    "innocent_failures": "innocent failures",
}
_INTRO = """# The fault matrix

One row a fault, each on a live system under mixed load: streams, plain answers and background jobs over REST, `/v1` and
gRPC, embeddings, a deployment, remote models. Written by `make faults`; the table of the rows is in
`tests/faults/matrix/rows.py`, what is checked after each of them in `tests/faults/matrix/invariants.py`.

- **lost**, **twice**: tokens or words, of what a client got and of what the journal holds, against what the engine
  makes undisturbed.
- **late**: streams whose next token came later than {late:.0f} s after the end of the fault (where all processes die:
  40 s).
- **left behind**: batch slots, processes, entries of indexes, keys without a time to live, subscriptions, descriptors,
  lock files, and jobs that the ledger counts otherwise than their records.
- **not ended**: accepted jobs without an end, or with more than one. **innocent failures**: answers other than asked
  for.
- **next token**: from the end of the fault to the next token of a stream that was hit, p50 and most. **serves**: to
  the end of a new request's answer. Seconds, on a machine with two cores that runs all processes and all clients.

"""
_CHAOS = """## Chaos

Some minutes (`make faults`: ten; here seven for the third seed) of random faults of the matrix under mixed load; times
are those at the end.

"""
_INTERLEAVINGS = """## Interleavings

`tests/interleavings`: {sequences:,} random sequences ({steps:,} steps) of clients, two workers, two keepers, a web
process and faults at any command of Redis, over the real scripts and a real Redis: {violations} violations."""
_NOT_COUNTED = ("row", "late_s", "serves", "notes", "skipped")
_HEAD = ["row", "streams", "jobs", *ZEROS.values(), "next token p50", "most", "serves"]


@dataclass
class Outcome:
    """What came of one row."""

    row: str
    streams: int = 0
    jobs: int = 0
    lost: int = 0
    duplicated: int = 0
    late: int = 0
    left_behind: int = 0
    not_ended: int = 0
    innocent_failures: int = 0
    next_token_p50_s: float | None = None
    next_token_max_s: float | None = None
    serves_after_s: float | None = None
    #: What comes later is late.
    late_s: float = LATE_S
    #: A new request can be served at all.
    serves: bool = True
    #: Why the row was not run; empty if it was.
    skipped: str = ""
    #: What was seen, for people; the first lines of a failure.
    notes: list[str] = field(default_factory=list)

    def problems(self, *, judge_times: bool) -> list[str]:
        """What is not as promised."""
        found = [f"{getattr(self, name)} {word}" for name, word in ZEROS.items() if getattr(self, name)]
        if not judge_times:
            found = [problem for problem in found if not problem.endswith(" late")]
        if not self.serves:
            return found
        if self.serves_after_s is None:
            found.append("serves no new request")
        elif judge_times and self.serves_after_s > self.late_s:
            found.append(f"serves a new request after {self.serves_after_s:.1f} s only")
        return found

    def counts(self) -> dict[str, Any]:
        """As docs/faults.json keeps it."""
        if self.skipped:
            return {"skipped": self.skipped}
        return {name: value for name, value in asdict(self).items() if name not in _NOT_COUNTED}


class Report:
    """The rows of this run; those of earlier runs stay until they are run again."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def note(self, outcome: Outcome) -> None:
        """Add a row, and show it to those who look on (`pytest -s`)."""
        self.outcomes.append(outcome)
        print(*_lines({outcome.row: outcome.counts()})[2:], *outcome.notes, sep="\n", flush=True)

    def write(self, order: list[str]) -> None:
        """Put the rows into docs/faults.json and docs/faults.md, in the table's order; what is not there is chaos."""
        whole = json.loads(JSON.read_text()) if JSON.exists() else {}
        new = {outcome.row: outcome.counts() for outcome in self.outcomes}
        rows = whole.get("matrix", {}) | new
        chaos = whole.get("chaos", {}) | {name: counts for name, counts in new.items() if name not in order}
        whole["matrix"] = {name: rows[name] for name in order if name in rows}
        whole["chaos"] = dict(sorted(chaos.items()))
        JSON.write_text(json.dumps(whole, indent=1) + "\n")
        PAGE.write_text(page(whole))

    def table(self) -> str:
        """The rows of this run for a terminal."""
        return "\n".join(_lines({outcome.row: outcome.counts() for outcome in self.outcomes}))


def page(whole: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/faults.md."""
    rows, chaos, interleavings = (whole.get(name, {}) for name in ("matrix", "chaos", "interleavings"))
    run = [row for row in rows.values() if "skipped" not in row]
    total = sum(row["streams"] + row["jobs"] for row in run)
    sums = ", ".join(f"{sum(row[name] for row in run)} {word}" for name, word in ZEROS.items())
    summary = f"{len(run)} rows, {total:,} streams and jobs: {sums}.\n\n"
    skipped = [f"- `{name}` was not run: {row['skipped']}" for name, row in rows.items() if "skipped" in row]
    blocks = [_INTRO.format(late=LATE_S) + summary + "\n".join(_lines(rows)), "\n".join(skipped)]
    if chaos:
        blocks.append(_CHAOS + "\n".join(_lines(chaos)))
    if interleavings:
        blocks.append(_INTERLEAVINGS.format(**interleavings))
    return "\n\n".join(filter(None, blocks)) + "\n"


def _lines(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"| {' | '.join(_HEAD)} |", "|" + "---|" * len(_HEAD)]
    for name, row in rows.items():
        if "skipped" not in row:
            counts = [row["streams"], row["jobs"], *(row[count] for count in ZEROS)]
            times = [row["next_token_p50_s"], row["next_token_max_s"], row["serves_after_s"]]
            cells = [*map(str, counts), *("-" if time is None else f"{time:.1f}" for time in times)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines

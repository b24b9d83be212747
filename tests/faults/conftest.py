"""How often each fault is done, and the record of what came of it (docs/faults.json, by `make faults`)."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pytest

from tests.faults.matrix.report import JSON, PAGE, page
from tests.stack import Stream

FULL = os.environ.get("HEADRACE_FAULTS") == "full"
#: How often each fault is done.
TIMES = 20 if FULL else 1


@dataclass
class Tally:
    """What came of one kind of fault."""

    times: int = 0
    streams: int = 0
    #: Streams that had begun, and still had to end, when the fault came.
    in_mid_stream: int = 0
    #: Streams that ended with every token, each once.
    whole: int = 0


class Ledger:
    """Tallies by fault."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        #: What was counted otherwise, by the name of the test.
        self.counts: dict[str, Mapping[str, int]] = {}

    def note(
        self, fault: str, streams: Sequence[Stream], seqs_at_fault: Sequence[int], check: Callable[[Stream], None]
    ) -> None:
        """Count streams that have ended, and those that `check` finds whole, which must be all.

        Most of them must have been hit in the middle.
        """
        tally = self.tallies[fault]
        tally.times += 1
        tally.streams += len(streams)
        flaws = [flaw for stream in streams if (flaw := _flaw(check, stream))]
        tally.whole += len(streams) - len(flaws)
        if flaws:
            raise flaws[0]
        hit = [0 < seq < stream.seqs[-1] - 1 for seq, stream in zip(seqs_at_fault, streams, strict=True)]
        assert sum(hit) >= 0.95 * len(hit), "the fault came too early or too late"
        tally.in_mid_stream += sum(hit)


def _flaw(check: Callable[[Stream], None], stream: Stream) -> AssertionError | None:
    """What is wrong with a stream."""
    try:
        check(stream)
    except AssertionError as flaw:
        return flaw
    return None


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """The ledger of this run; written down if it is a full one."""
    ledger = Ledger()
    yield ledger
    if FULL:
        whole = json.loads(JSON.read_text()) if JSON.exists() else {}
        tallies = {fault: asdict(tally) for fault, tally in ledger.tallies.items()}
        whole["repeated"] = dict(sorted({**whole.get("repeated", {}), **tallies}.items()))
        whole |= ledger.counts
        JSON.write_text(json.dumps(whole, indent=1) + "\n")
        PAGE.write_text(page(whole))

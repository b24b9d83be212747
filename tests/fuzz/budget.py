"""How long a fuzz test hunts. Hypothesis counts examples, not seconds: `rounds` repeats a test until its time is over.

@budget()
@given(text=st.text())
def test_no_text_breaks_it(text: str) -> None: ...
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings

#: Seconds for each fuzz test within all the others: enough to see that it still holds.
SHORT_S = 0.5
#: Seconds for each fuzz test; `make fuzz` sets it.
FUZZ_S = float(os.environ.get("HEADRACE_FUZZ_S") or SHORT_S)
LONG = FUZZ_S > SHORT_S
#: What a failing example may take besides, until it is the smallest one. Hypothesis shrinks for 5 minutes at most.
SHRINKING_S = 420.0


def budget(examples: int = 50) -> settings:
    """Settings of a fuzz test: a round of so many examples, few if each of them is slow. The example that fails is
    printed, with the line that repeats it.
    """
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        verbosity=Verbosity.normal,
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=[health for health in HealthCheck if health.name in _ALLOWED],
    )


#: What hypothesis warns of and we mean.
_ALLOWED = ("too_slow", "data_too_large", "large_base_example", "function_scoped_fixture")


def rounds(test: Callable[..., Any], arguments: dict[str, Any]) -> int:
    """Run a test of hypothesis again and again until its time is over; how often.

    A short hunt always goes the same way, so that a build breaks for what has changed in it; a long one never does.
    """
    until, first, count = time.monotonic() + FUZZ_S, secrets.randbits(63) if LONG else 0, 0
    while count == 0 or time.monotonic() < until:
        seed(first + count)(test)
        test(**arguments)
        count += 1
    return count

"""When a job is given up that has been the end of several who ran it."""

from __future__ import annotations

import pytest

from gateway.jobs.record import JobHead, JobState
from workers.journal.quarantine import MAX_LOSSES, PoisonRule, Verdict

ENGINE = PoisonRule("The engine", 3, "engine_crashed")
AGENT = PoisonRule("The agent", lost="INTERNAL", more={"remedy": "Deploy again."})
TOO_OFTEN = f"The job was begun {MAX_LOSSES} times in a row and never came far."


@pytest.mark.parametrize(
    ("rule", "crashes", "losses", "verdict"),
    [
        (ENGINE, 2, MAX_LOSSES - 1, None),
        (ENGINE, 3, 0, Verdict("engine_crashed", "The engine died 3 times while it ran this job.")),
        (ENGINE, 0, MAX_LOSSES, Verdict("internal_error", TOO_OFTEN)),
        (AGENT, 9, 9, None),
        (AGENT, 9, MAX_LOSSES, Verdict("INTERNAL", TOO_OFTEN, {"remedy": "Deploy again."})),
    ],
)
def test_crashes_and_losses_are_bounded(rule: PoisonRule, crashes: int, losses: int, verdict: Verdict | None) -> None:
    job = JobHead("chat-1", JobState.RUNNING, "chat", "fake", "key", crashes=crashes, losses=losses)
    assert rule.verdict(job) == verdict

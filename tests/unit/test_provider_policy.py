"""What happens after a call of a provider has failed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.jobs.record import Job, JobState
from gateway.models.entry import Model, Provider
from workers.providers.base import UpstreamDelta
from workers.providers.continuation import fits, is_bound
from workers.providers.failures import UpstreamFailure
from workers.providers.policy import BACKOFF, Step, after
from workers.providers.run import ProviderRun
from workers.providers.transcript import Transcript

OTHER = Model("other", "Other", "", "1", ("chat",), provider="p2")
BUSY = UpstreamFailure("upstream_error", "Provider p failed.", retryable=True)


def decide(
    failure: UpstreamFailure = BUSY,
    *,
    shown: bool = False,
    policy: str = "continue",
    fallback: bool = True,
    can: tuple[str, ...] = ("m", "other"),
    **more: Any,
) -> Step:
    job = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "key", {"messages": []})
    transcript = Transcript(job)
    if shown:
        transcript.take(UpstreamDelta(text="hello"), transcript.begin_call())
    run = ProviderRun(job, Model("m", "M", "", "1", ("chat",), provider="p"), Provider("p", "openai"), transcript)
    arguments: dict[str, Any] = {"tries": 0, **more}
    return after(
        failure,
        run=run,
        policy=policy,
        others=[OTHER] if fallback else [],
        continues=lambda model: model.id in can,
        **arguments,
    )


def test_nothing_shown_tries_again_then_the_fallback_then_fails() -> None:
    step = decide()
    assert (step.go, step.tries, step.reason) == (True, 1, "upstream_error")
    assert BACKOFF.first_s / 2 <= step.wait_s <= BACKOFF.first_s
    assert decide(tries=2) == Step(go=False, mode="continue", next="other")
    assert decide(tries=2, fallback=False) == Step(go=False)


def test_a_long_retry_after_and_what_is_not_retryable_end_the_tries() -> None:
    limited = UpstreamFailure("upstream_rate_limited", "Limited.", retryable=True, retry_after_s=3.0)
    assert decide(limited).wait_s == 3.0
    limited.retry_after_s = 60.0
    assert decide(limited).next == "other"
    assert decide(UpstreamFailure("upstream_auth", "No.")).next == "other"


@pytest.mark.parametrize("reason", ["upstream_refused", "context_length_exceeded"])
@pytest.mark.parametrize("shown", [False, True])
def test_a_refused_request_fails(reason: str, shown: bool) -> None:
    assert decide(UpstreamFailure(reason, "No."), shown=shown) == Step(go=False)


def test_in_the_middle_the_fallback_comes_first_if_it_can_go_on() -> None:
    assert decide(shown=True).next == "other"
    assert decide(shown=True, can=("m",)).go, "else the same one again"
    assert decide(shown=True, policy="restart", can=()).next == "other", "anybody can begin anew"
    assert "can go on from its text" in decide(shown=True, can=()).message
    assert "set to fail" in decide(shown=True, policy="fail").message
    assert decide(policy="fail").go, "nothing was shown, and nothing is known to be paid for"


def test_a_lost_worker_says_nothing_against_its_provider() -> None:
    lost = UpstreamFailure("upstream_interrupted", "Lost.", blame=False)
    step = decide(lost, shown=True, lost=True)
    assert (step.go, step.wait_s, step.mode) == (True, 0.0, "continue")
    assert decide(lost, shown=True, lost=True, can=("other",)).next == "other"
    assert decide(lost, lost=True, policy="fail").message, "its call may be paid for, though nothing was shown"
    assert decide(lost, lost=True, tries=2, fallback=False) == Step(go=False), "it kills its workers"


def test_an_answer_that_must_be_whole_begins_anew_where_nobody_can_go_on() -> None:
    step = decide(shown=True, can=(), bound=True)
    assert (step.next, step.mode) == ("other", "restart")
    step = decide(shown=True, can=(), bound=True, fallback=False)
    assert (step.go, step.mode) == (True, "restart")
    step = decide(shown=True, can=("other",), bound=True)
    assert (step.next, step.mode) == ("other", "continue"), "who is held to the form goes on"
    assert "set to fail" in decide(shown=True, can=(), bound=True, policy="fail").message


FORM = {"structured_outputs": {"choice": ["yes", "no"]}}
LOCAL = Model("here", "Here", "", "1", ("chat",))
CALL = UpstreamDelta(tool_calls=[{"index": 0, "function": {"name": "a", "arguments": ""}}])


@pytest.mark.parametrize(
    ("request_", "begun", "bound", "here", "there"),
    [
        ({}, UpstreamDelta(text="hello"), False, True, True),
        ({"tools": [{}], "tool_choice": "auto"}, UpstreamDelta(text="hello"), False, True, True),
        ({"tools": [{}], "tool_choice": "required"}, UpstreamDelta(text="hello"), True, False, False),
        ({"tools": [{}]}, CALL, True, False, False),
        (FORM, UpstreamDelta(text="ye"), True, True, False),
        (FORM, UpstreamDelta(text="never"), True, False, False),
    ],
)
def test_a_form_can_be_gone_on_with_only_by_who_is_held_to_it(
    request_: dict[str, Any], begun: UpstreamDelta, bound: bool, here: bool, there: bool
) -> None:
    transcript = Transcript(Job("c", JobState.RUNNING, "chat", "m", "key", {"messages": [], **request_}))
    transcript.take(begun, transcript.begin_call())
    assert is_bound(transcript) is bound
    assert (fits(transcript, LOCAL), fits(transcript, OTHER)) == (here, there)

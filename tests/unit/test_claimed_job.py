"""The events that a worker writes under its claim: what is sent, what is sent again, and how a job ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.jobs.events import MAX_BYTES_PER_APPEND, MAX_EVENTS_PER_APPEND, Append, EventType
from gateway.jobs.record import Job, JobState
from gateway.store.codec import Unwritable
from workers.engines.steps import IMPOSSIBLE
from workers.journal.claimed_job import ClaimedJob

JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "key", request={"messages": []}, claim="c1")


class Claimed(ClaimedJob):
    def usage(self) -> Mapping[str, int]:
        return {"total_tokens": 7}


def claimed(**fields: Any) -> Claimed:
    return Claimed(replace(JOB, **fields))


def sent(job: ClaimedJob) -> tuple[Append, list[dict[str, Any]]]:
    """What is to be sent now."""
    append = job.unconfirmed()
    assert append is not None
    return append, [json.loads(event) for event in append.events]


def test_a_claim_starts_a_journal_or_resumes_it() -> None:
    for seq, kind in ((0, "started"), (9, "resumed")):
        job = claimed(seq=seq)
        job.begin({"model": "m"})
        append, (event,) = sent(job)
        assert (append.first_seq, append.claim) == (seq + 1, "c1")
        assert (event["type"], event["c"], event["model"], append.tokens) == (kind, "c1", "m", 0)


def test_what_comes_between_two_appends_is_one_event_a_choice() -> None:
    job = claimed()
    job.extend(0, ids=[1], text="a")
    job.extend(1, ids=[2], text="b")
    job.extend(0, ids=[3, 4], text="c", lp=[["c", -1.0]])
    job.finish_choice(1, "stop")
    append, events = sent(job)
    assert events == [
        {"type": "delta", "c": "c1", "ids": [1, 3, 4], "text": "ac", "lp": [["c", -1.0]]},
        {"type": "delta", "c": "c1", "index": 1, "ids": [2], "text": "b", "finish": "stop"},
    ]
    assert append.tokens == 4


def test_what_was_sent_and_not_confirmed_is_sent_again_as_it_was() -> None:
    job = claimed()
    job.extend(0, ids=[1], text="a")
    first, _ = sent(job)
    job.extend(0, ids=[2], text="b")
    again, events = sent(job)
    assert again.events[:1] == first.events, "Redis may have it: it may not have changed"
    assert [event["text"] for event in events] == ["a", "b"]
    job.confirm(first)
    rest, (event,) = sent(job)
    assert (rest.first_seq, event["text"], rest.tokens) == (2, "b", 2)
    job.confirm(rest)
    assert job.unconfirmed() is None
    assert job.flushed


def test_a_rewound_journal_gets_what_it_lost_from_this_claim_only() -> None:
    job = claimed(seq=4)
    for letter in "abc":
        job.extend(0, ids=[1], text=letter)
        job.confirm(sent(job)[0])
    assert job.rewind(5)
    append, events = sent(job)
    assert (append.first_seq, [event["text"] for event in events]) == (6, ["b", "c"])
    assert not job.rewind(3), "entry 4 is of an earlier claim"


def test_an_append_holds_so_many_events_and_so_many_bytes_but_always_one() -> None:
    job = claimed()
    for _ in range(MAX_EVENTS_PER_APPEND + 5):
        job.event(EventType.LOG, {"at": 1, "level": "info", "message": "x"})
    append, events = sent(job)
    assert len(events) == MAX_EVENTS_PER_APPEND
    job.confirm(append)
    assert len(sent(job)[1]) == 5
    long = claimed()
    for _ in range(3):
        long.extend(0, text="x" * (MAX_BYTES_PER_APPEND * 2 // 3))
        long._close()
    assert len(sent(long)[1]) == 1
    huge = claimed()
    huge.extend(0, text="x" * (2 * MAX_BYTES_PER_APPEND))
    assert len(sent(huge)[1]) == 1


def test_the_end_goes_with_the_last_events_and_not_before() -> None:
    job = claimed()
    for _ in range(MAX_EVENTS_PER_APPEND):
        job.event(EventType.LOG, {"at": 1, "level": "info", "message": "x"})
    job.done()
    first, _ = sent(job)
    assert (first.state, first.fields) == (None, {})
    job.confirm(first)
    last, (event,) = sent(job)
    assert last.state is JobState.DONE
    assert event == {"type": "done", "c": "c1", "usage": {"total_tokens": 7}}
    assert json.loads(last.fields["usage"]) == {"total_tokens": 7}


@pytest.mark.parametrize("then", ["done", "cancel", "fail", "hand_over"])
def test_a_job_ends_once(then: str) -> None:
    job = claimed()
    job.fail("engine_crashed", "It died.", engine="fake")
    getattr(job, then)(*{"fail": ("other", "Something else."), "hand_over": ("n", {})}.get(then, ()))
    append, (event,) = sent(job)
    assert (append.state, event["type"]) == (JobState.FAILED, "failed")
    assert event["error"] == {"reason": "engine_crashed", "message": "It died.", "engine": "fake"}
    assert json.loads(append.fields["error"]) == event["error"]
    assert "route" not in append.fields


def test_a_job_that_is_handed_over_waits_for_the_other_model() -> None:
    job = claimed()
    job.extend(0, text="half")
    job.hand_over("other", {"model": "m", "mode": "continue"})
    append, (delta, event) = sent(job)
    assert delta["text"] == "half"
    assert (append.state, append.fields["route"]) == (JobState.QUEUED, "other")
    assert (event["type"], event["next"], event["mode"]) == ("interrupted", "other", "continue")


def test_a_cancelled_job_says_why() -> None:
    job = claimed(cancel_reason="client_gone")
    job.cancel()
    assert sent(job)[1] == [{"type": "cancelled", "c": "c1", "reason": "client_gone"}]


def test_vectors_go_with_the_event_that_names_them() -> None:
    job, size = claimed(), MAX_BYTES_PER_APPEND // 2
    for index in (2, 0, 1):
        job.add_vector(index, bytes([index]) * size)
    first, (event,) = sent(job)
    assert event["done"] == [0, 1]
    assert [(offset, data[:1]) for offset, data in first.vectors] == [(0, b"\0"), (size, b"\1")]
    job.confirm(first)
    last, (event,) = sent(job)
    assert (event["done"], last.vectors[0][0], last.tokens) == ([2], 2 * size, 3)


def test_a_log_probability_that_json_does_not_have_is_the_least_there_is() -> None:
    job = claimed()
    job.extend(0, text="ab", lp=[["a", float("-inf")], ["b", None, 1]])
    assert sent(job)[1][0]["lp"] == [["a", IMPOSSIBLE], ["b", IMPOSSIBLE, 1]]


def test_what_nobody_could_read_is_not_written() -> None:
    job = claimed()
    with pytest.raises(Unwritable, match="An event of type log"):
        job.event(EventType.LOG, {"level": "info"})


def test_what_begins_or_ends_is_urgent() -> None:
    job = claimed()
    job.extend(0, text="a")
    assert not job.urgent
    job.finish_choice(0, "stop")
    assert job.urgent
    job.unconfirmed()
    assert not job.urgent
    job.done()
    assert job.urgent

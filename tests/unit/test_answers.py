"""A journal adds up to the same answer, whichever way it is read: as chunks, as a whole, from a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import GenerationFailed, JobNotFound, Unreadable
from gateway.jobs.events import Event
from gateway.jobs.journal import as_delta, failure, fold, num_choices, num_indexes, served_by, usage
from gateway.jobs.record import Job, JobState
from gateway.views.text import answer, chunks

CHAT = Job("chatcmpl-1", JobState.DONE, "chat", "m", "key", request={"messages": []}, created_at=1_700_000_000_123)
TEXT = replace(CHAT, id="cmpl-1", kind="completion", request={"prompt": "once"})


def journal(*bodies: Mapping[str, Any]) -> list[Event]:
    return [Event.from_entry(seq, {"c": "c1", **body}) for seq, body in enumerate(bodies, 1)]


def delta(text: str = "", index: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "delta", "index": index, "text": text, **more}


STARTED = {"type": "started", "model": "m", "prompt_tokens": 3}
ANSWER = journal(
    STARTED,
    delta("Hel", ids=[1, 2]),
    delta("lo", ids=[3], finish="stop"),
    {"type": "done", "usage": {"total_tokens": 6}},
)


def texts(job: Job, events: Sequence[Event]) -> dict[int, str]:
    """What a client of the stream has, choice by choice."""
    found: dict[int, str] = {}
    for event in events:
        for chunk in chunks(job, event):
            if stands := chunk.get("rewound") or chunk.get("snapshot"):
                found = {int(index): text for index, text in stands["text"].items()}
            for choice in chunk["choices"]:
                text = choice.get("delta", {}).get("content") or choice.get("text") or ""
                found[choice["index"]] = found.get(choice["index"], "") + text
    return found


def test_a_chat_is_the_same_streamed_and_whole() -> None:
    whole = answer(CHAT, ANSWER)
    assert whole["choices"] == [
        {"message": {"role": "assistant", "content": "Hello"}, "index": 0, "finish_reason": "stop"}
    ]
    assert (whole["id"], whole["object"], whole["created"], whole["model"]) == (
        *("chatcmpl-1", "chat.completion", 1_700_000_000, "m"),
    )
    assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert texts(CHAT, ANSWER) == {0: "Hello"}
    first, *_, last = (chunk for event in ANSWER for chunk in chunks(CHAT, event))
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert last["choices"] == [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]
    assert {first["object"], last["object"]} == {"chat.completion.chunk"}


def test_usage_is_a_chunk_of_its_own_if_it_is_asked_for() -> None:
    assert chunks(CHAT, ANSWER[-1]) == []
    asked = replace(CHAT, request={**CHAT.request, "stream_options": {"include_usage": True}})
    (last,) = chunks(asked, ANSWER[-1])
    assert (last["choices"], last["usage"]) == ([], {"total_tokens": 6})


def test_each_prompt_has_its_choices_and_each_its_echo() -> None:
    job = replace(TEXT, request={"prompt": ["a", "b"], "n": 2, "echo": True})
    events = journal(STARTED, *(delta(f"-{i}", i, ids=[i], finish="length") for i in (2, 0, 3, 1)))
    assert num_choices(job) == 4
    assert [choice["text"] for choice in answer(job, events)["choices"]] == ["a-0", "a-1", "b-2", "b-3"]
    assert texts(job, events) == {0: "a-0", 1: "a-1", 2: "b-2", 3: "b-3"}


def test_log_probabilities_belong_to_their_kind() -> None:
    events = journal(STARTED, delta("a€", ids=[1, 2, 3], lp=[["a", -0.5], ["\ufffd", -1.0, 1, "e282"], ["", 0.0, 2]]))
    asked = {"logprobs": 0}
    (text,) = answer(replace(TEXT, request={"prompt": "12345", "logprobs": 1}), events)["choices"]
    assert text["logprobs"] == {
        "tokens": ["a", "\ufffd", ""],
        "token_logprobs": [-0.5, -1.0, 0.0],
        "top_logprobs": None,
        "text_offset": [0, 1, 2],
    }
    assert "logprobs" not in answer(replace(TEXT, request={"prompt": "x", **asked}), events)["choices"][0]
    (chat,) = answer(replace(CHAT, request={"logprobs": True}), events)["choices"]
    assert [entry["bytes"] for entry in chat["logprobs"]["content"]] == [[97], [0xE2, 0x82], []]


def test_a_restart_takes_back_what_has_not_ended() -> None:
    job = replace(CHAT, request={"n": 2})
    events = journal(
        STARTED,
        delta("whole", 0, ids=[1], finish="stop"),
        delta("half", 1, ids=[2]),
        {"type": "interrupted", "model": "m", "mode": "restart", "next": "other"},
        {"type": "resumed", "model": "other", "mode": "restart", "text": {"0": "whole"}},
        delta("anew", 1, ids=[3, 4], finish="stop"),
    )
    assert [choice.text for choice in fold(events, num_choices=2)] == ["whole", "anew"]
    assert texts(job, events) == {0: "whole", 1: "anew"}
    assert served_by(job, events) == ["m", "other"]
    whole = answer(job, events)
    assert (whole["model"], whole["served_by"]) == ("other", ["m", "other"])
    assert usage(events)["completion_tokens"] == 4, "what was taken back was used all the same"


def test_a_cancelled_choice_keeps_what_it_had_and_one_that_had_ended_its_reason() -> None:
    events = journal(STARTED, delta("a", 0, finish="stop"), delta("b", 1), {"type": "cancelled", "reason": "x"})
    assert [(c.text, c.finish_reason) for c in fold(events, num_choices=2)] == [("a", "stop"), ("b", "cancelled")]
    (last,) = chunks(replace(CHAT, request={"n": 2}), events[-1])
    assert [choice["finish_reason"] for choice in last["choices"]] == ["cancelled", "cancelled"]
    assert [choice["delta"] for choice in last["choices"]] == [{}, {}]


def test_a_snapshot_reads_as_the_journal_that_it_stands_for() -> None:
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    events = journal(
        STARTED,
        delta("Hel", ids=[1, 2], lp=[["H", -1.0], ["el", -2.0]]),
        delta("lo", ids=[3], lp=[["lo", -3.0]], tool_calls=[call]),
        delta("", tool_calls=[rest], finish="tool_calls"),
    )
    folded = [as_delta(index, choice) for index, choice in enumerate(fold(events))]
    snapshot = journal(
        STARTED, {"type": "snapshot", "choices": folded, "completion_tokens": 3, "served_by": ["m"], "model": "m"}
    )
    job = replace(CHAT, request={"logprobs": True})
    assert answer(job, snapshot) == answer(job, events)
    assert texts(job, snapshot) == texts(job, events) == {0: "Hello"}
    (call_made,) = answer(job, events)["choices"][0]["message"]["tool_calls"]
    assert call_made["function"] == {"name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize(("kind", "name"), [("rewound", "rewound"), ("compacted", "snapshot")])
def test_what_voids_a_stream_says_what_stands_instead(kind: str, name: str) -> None:
    job = replace(TEXT, request={"prompt": ["a", "b"], "echo": True})
    stands = Event(7, {"type": kind, "text": {"1": "x"}, "choices": [delta("", 1, finish="stop")]})
    (first, second) = chunks(job, stands)
    assert first[name] == {"seq": 7, "text": {"0": "a", "1": "bx"}}
    assert second["choices"] == [{"index": 1, "text": "", "finish_reason": "stop"}]


def test_an_event_without_visible_effect_gives_no_chunk() -> None:
    for event in journal(delta("", ids=[5]), {"type": "interrupted", "model": "m", "mode": "continue"}):
        assert chunks(CHAT, event) == []


def test_a_choice_that_the_job_does_not_have_is_no_answer() -> None:
    events = journal(STARTED, delta("x", 2))
    assert num_indexes(events) == 3
    with pytest.raises(Unreadable, match="choice 2, and the job has 2"):
        fold(events, num_choices=2)


def test_the_last_prompt_and_all_completions_are_counted_with_what_a_provider_tells() -> None:
    events = journal(
        STARTED,
        delta("a", ids=[1, 2]),
        {"type": "interrupted", "model": "m", "mode": "continue", "completion_tokens": 4, "cached_tokens": 1},
        {"type": "resumed", "model": "n", "prompt_tokens": 9, "reasoning_tokens": 2},
    )
    assert usage(events) == {
        "prompt_tokens": 9,
        "completion_tokens": 6,
        "total_tokens": 15,
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_an_end_without_an_answer_is_an_error() -> None:
    failed, expired = journal(
        {"type": "failed", "error": {"reason": "engine_crashed", "message": "It died."}}, {"type": "expired"}
    )
    found = failure(failed)
    assert isinstance(found, GenerationFailed)
    assert (found.reason, found.message) == ("engine_crashed", "It died.")
    assert isinstance(failure(expired), JobNotFound)
    assert failure(ANSWER[-1]) is None

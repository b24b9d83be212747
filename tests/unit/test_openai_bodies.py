"""Answers and chunks below /v1 have all keys of OpenAI's schemas, and the tests' judge of that knows what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.views.text import answer
from tests.openai_types import flaws
from web.http import openai_bodies
from web.http.openai import OpenAI

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
LP = [["a", -0.5, 0], ["b", -1.5, 1]]


def job(kind: str, **request: Any) -> Job:
    return Job("job-1", JobState.RUNNING, kind, "m", "key", request, created_at=1_700_000_000_123)


def events(*bodies: dict[str, Any]) -> list[Event]:
    told = [{"type": "started", "prompt_tokens": 1}, *bodies, {"type": "done", "usage": USAGE}]
    return [Event.from_entry(seq, {"c": "c1", **body}) for seq, body in enumerate(told, 1)]


def streamed(of: Job, journal: list[Event], *, old_calls: bool = False) -> tuple[str, list[dict[str, Any]]]:
    """The stream, and its chunks."""
    chunks = openai_bodies.openai_chunks(of, old_calls=old_calls)
    text = "".join(part for event in journal for part in chunks.encode(event)) + "data: [DONE]\n\n"
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    return text, [json.loads(line) for line in lines]


def choices(chunks: list[dict[str, Any]]) -> list[tuple[int, Any, str | None]]:
    """Index, what is new, and how it ended."""
    found = [choice for chunk in chunks for choice in chunk["choices"]]
    return [(choice["index"], choice.get("delta", choice.get("text")), choice["finish_reason"]) for choice in found]


def judged(path: str, of: Job, text: str) -> list[str]:
    return flaws(path, 200, of.request, text.encode(), is_stream=True, is_whole=True)


DELTAS: dict[str, list[dict[str, Any]]] = {
    "text and end": [{"type": "delta", "text": "a"}, {"type": "delta", "text": "b", "finish": "stop"}],
    "end alone": [{"type": "delta", "text": "a"}, {"type": "delta", "finish": "length"}],
    "all at once": [{"type": "snapshot", "choices": [{"text": "ab", "finish": "stop"}]}],
    "log probabilities": [{"type": "delta", "text": "ab", "lp": LP, "finish": "stop"}],
    "nothing": [{"type": "delta", "finish": "stop"}],
}


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("deltas", DELTAS.values(), ids=DELTAS.keys())
@pytest.mark.parametrize(("path", "kind"), [(CHAT, "chat"), (TEXT, "completion")])
def test_a_stream_has_all_keys(path: str, kind: str, deltas: list[dict[str, Any]], counts: bool) -> None:
    of = job(kind, stream_options={"include_usage": counts}, logprobs=True)
    text, chunks = streamed(of, events(*deltas))
    assert judged(path, of, text) == []
    (index, last, finish) = choices(chunks)[-1]
    assert (index, bool(last), bool(finish)) == (0, False, True)
    whole = OpenAI().answer(answer(of, events(*deltas)), status=200, message="")
    assert flaws(path, 200, {}, json.dumps(whole).encode(), is_stream=False, is_whole=True) == []
    (choice,) = whole["choices"]
    said = [new["content"] if isinstance(new, dict) else new for _, new, _ in choices(chunks)[:-1]]
    assert "".join(said) == (choice["message"]["content"] if kind == "chat" else choice["text"])


def test_each_chunk_has_one_choice_from_the_beginning() -> None:
    of = job("chat", n=2)
    text, chunks = streamed(of, events({"type": "delta", "index": 1, "text": "a", "finish": "stop"}))
    begun = {"role": "assistant", "content": "", "refusal": None}
    assert choices(chunks) == [(0, begun, None), (1, begun, None), (1, {"content": "a"}, None), (1, {}, "stop")]
    assert judged(CHAT, of, text) == []


def test_calls_and_thoughts_come_before_the_end() -> None:
    of, thought = job("chat"), {"reasoning_content": "hm"}
    journal = events({"type": "delta", "extra": [thought], "tool_calls": [CALL], "finish": "tool_calls"})
    text, chunks = streamed(of, journal)
    assert choices(chunks)[1:] == [(0, {**thought, "tool_calls": [CALL]}, None), (0, {}, "tool_calls")]
    assert judged(CHAT, of, text) == []


def test_who_knows_functions_only_gets_a_function_call() -> None:
    of = job("chat")
    journal = events({"type": "delta", "tool_calls": [CALL, {**CALL, "index": 1, "id": "c2"}], "finish": "tool_calls"})
    text, chunks = streamed(of, journal, old_calls=True)
    called = {"function_call": CALL["function"]}
    assert choices(chunks)[1:] == [(0, called, None), (0, {}, "function_call")]
    assert judged(CHAT, of, text) == []
    whole = OpenAI(old_calls=True).answer(answer(of, journal), status=200, message="")
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, **called}
    assert choice["finish_reason"] == "function_call"
    assert flaws(CHAT, 200, {}, json.dumps(whole).encode(), is_stream=False, is_whole=True) == []


def test_log_probabilities_of_a_completion_are_lists() -> None:
    of = job("completion", logprobs=True)
    _, chunks = streamed(of, events({"type": "delta", "text": "ab", "lp": LP}))
    (chunk,) = chunks
    assert chunk["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -1.5],
        "top_logprobs": [{"a": -0.5}, {"b": -1.5}],
        "text_offset": [0, 1],
    }


CHUNK = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHOICE: dict[str, Any] = {"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {**CHUNK, "choices": [{**CHOICE, "finish_reason": "stop"}]},
        {**CHUNK, "choices": [{**CHOICE, "delta": {}, "finish_reason": "cancelled"}]},
        {**CHUNK, "choices": [CHOICE, {**CHOICE, "index": 1}]},
        {**CHUNK, "choices": [{**CHOICE, "index": "0"}]},
        {**CHUNK, "choices": [CHOICE], "usage": None},
        {**CHUNK, "choices": [{**CHOICE, "delta": {"content": 1}}]},
        {**CHUNK, "created": "1", "choices": [CHOICE]},
        {**CHUNK, "choices": [{name: value for name, value in CHOICE.items() if name != "logprobs"}]},
        {**CHUNK, "choices": [{**CHOICE, "logprobs": {"content": []}}]},
        {"error": {"message": "m", "type": "t", "code": None}},
    ],
)
def test_the_judge_knows_wrong_chunks(wrong: dict[str, Any]) -> None:
    def told(chunk: dict[str, Any]) -> list[str]:
        text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        return flaws(CHAT, 200, {}, text.encode(), is_stream=True, is_whole=True)

    assert told({**CHUNK, "choices": [CHOICE]}) == []
    assert told(wrong)


def test_the_judge_knows_wrong_answers() -> None:
    message = {"role": "assistant", "content": "a", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    right = {**CHUNK, "object": "chat.completion", "choices": [choice], "usage": USAGE}

    def told(body: dict[str, Any]) -> list[str]:
        return flaws(CHAT, 200, {}, json.dumps(body).encode(), is_stream=False, is_whole=True)

    assert told(right) == []
    assert told({**right, "usage": None})
    for name in ("logprobs", "finish_reason", "index"):
        assert told({**right, "choices": [{key: value for key, value in choice.items() if key != name}]}), name
    for name in ("refusal", "content", "role"):
        said = {key: value for key, value in message.items() if key != name}
        assert told({**right, "choices": [{**choice, "message": said}]}), name

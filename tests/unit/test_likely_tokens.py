"""Other likely tokens, and those of a prompt: from an engine's frame and a provider's chunk to each face's answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.inference.parameters import with_defaults
from gateway.jobs.compaction import snapshot
from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import load_catalog
from gateway.models.entry import Model
from gateway.settings import Settings
from gateway.views.text import answer, chunks
from workers.engines.base import Likely, SequenceOutput, TokenLogprob
from workers.engines.steps import StepFrame
from workers.handlers.generation_run import Run
from workers.handlers.prompts import token_limit
from workers.providers.protocols.chunks import Chunks
from workers.providers.protocols.wire import Event as WireEvent
from workers.tokenizers.load import FakeTokenizer

#: The fake tokenizer, but for one token that is a part of a character.
PART = 9


class Tokens(FakeTokenizer):
    def token_bytes(self, token_id: int) -> bytes:
        return b"\xe2" if token_id == PART else super().token_bytes(token_id)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


BASE = {"temperature": 0.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 2}
CHAT = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "k", {**BASE, "messages": []}, claim="c")
TEXT = Job("cmpl-1", JobState.RUNNING, "completion", "m", "k", {**BASE, "prompt": "a b", "echo": True}, claim="c")
LIKELY = [Likely(1, -0.5), Likely(PART, -1.0)]
PROMPT = [TokenLogprob(None, ()), TokenLogprob(-3.0, [Likely(7, -0.1), Likely(5, -3.0)])]


def run_of(job: Job, journal: Sequence[Event] = (), *, max_tokens: int = 9) -> Run:
    resume_point = ResumePoint.from_journal(job, journal) if journal else None
    return Run(job, prompts=[[4, 5]], tokenizer=Tokens(), max_tokens=max_tokens, resume_point=resume_point)


def written(run: Run, *outputs: SequenceOutput) -> list[Event]:
    run.begin({"weights": "w"})
    events: list[Event] = []
    for output in (None, *outputs):
        if output is not None:
            run.take(0, output)
        while append := run.unconfirmed():
            events += [Event.from_entry(append.first_seq + i, json.loads(e)) for i, e in enumerate(append.events)]
            run.confirm(append)
    return events


def output(token: int, *, prompt: Any = None, finish: str | None = None) -> SequenceOutput:
    return SequenceOutput(0, [token], [-0.5], finish, likely=[LIKELY], prompt=prompt)


def test_a_frame_carries_them(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [output(1, prompt=PROMPT), SequenceOutput(1, [2]), SequenceOutput(2, [3], cached=4)]
    packed = json.loads(json.dumps(StepFrame(outputs, 2, 1).pack()))
    first, second, third = StepFrame.parse(packed).outputs
    assert (first.cached, second.cached, third.cached) == (None, None, 4)
    assert (first.likely, first.prompt) == ([LIKELY], [(None, []), PROMPT[1]])
    assert (second.likely, second.prompt) == (None, None)
    impossible = SequenceOutput(0, [1], [0.0], likely=[[Likely(1, float("-inf"))]])
    assert StepFrame([impossible], 1, 1).pack()["out"][0][6] == [[[1, -9999.0]]]


@pytest.mark.parametrize(
    "extra",
    [[3, None, 1], [[[["a", -1.0]]], None, 1], [None, [[None]], 1], [[[[-1, 0.0]]], None, 1], [None, None, "1"]],
)
def test_a_frame_with_something_else_there_is_none(extra: list[Any]) -> None:
    with pytest.raises(ValueError, match="what"):
        StepFrame.parse({**StepFrame([], 1, 1).pack(), "out": [[0, [1], None, None, None, None, *extra]]})


def test_a_chat_has_them_as_objects() -> None:
    (choice,) = answer(CHAT, written(run_of(CHAT), output(1, finish="stop")))["choices"]
    (entry,) = choice["logprobs"]["content"]
    assert entry["top_logprobs"] == [
        {"token": " w1", "logprob": -0.5, "bytes": list(b" w1")},
        {"token": "\ufffd", "logprob": -1.0, "bytes": [0xE2]},
    ]


def test_a_completion_has_them_by_text_with_the_token_itself_and_those_of_the_prompt_before() -> None:
    events = written(run_of(TEXT), output(3, prompt=PROMPT, finish="stop"))
    (choice,) = answer(TEXT, events)["choices"]
    assert choice["text"] == "a b w3"
    assert choice["logprobs"] == {
        "tokens": [" w4", " w5", " w3"],
        "token_logprobs": [None, -3.0, -0.5],
        "top_logprobs": [None, {" w7": -0.1, " w5": -3.0}, {" w1": -0.5, "\ufffd": -1.0, " w3": -0.5}],
        "text_offset": [0, 3, 3],
    }
    streamed = [choice for event in events for chunk in chunks(TEXT, event) for choice in chunk["choices"]]
    assert "".join(part["text"] for part in streamed) == choice["text"]
    for name, values in choice["logprobs"].items():
        assert [value for part in streamed for value in part.get("logprobs", {}).get(name, ())] == values
    assert answer(TEXT, snapshot(events))["choices"] == [choice]


def test_a_resume_writes_the_prompt_once() -> None:
    first = written(run_of(TEXT), output(3, prompt=PROMPT))
    again = run_of(replace(TEXT, seq=first[-1].seq), first)
    (request,) = again.requests(1)
    assert request.sampling is not None
    assert not request.sampling.prompt_logprobs
    whole = answer(TEXT, [*first, *written(again, output(3, finish="length"))])["choices"][0]
    assert whole["text"] == "a b w3 w3"
    assert whole["logprobs"]["tokens"] == [" w4", " w5", " w3", " w3"]
    begun = run_of(replace(TEXT, seq=2), first[:2])
    assert [request.sampling.prompt_logprobs for request in begun.requests(1) if request.sampling] == [True]


def test_an_answer_of_no_tokens_is_the_prompt_alone() -> None:
    """Without log probabilities no engine is asked at all."""
    scored = run_of(TEXT, max_tokens=0)
    events = written(scored, SequenceOutput(0, [], None, "length", prompt=PROMPT))
    (choice,) = answer(TEXT, events)["choices"]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]["tokens"]) == ("a b", "length", [" w4", " w5"])
    plain = replace(TEXT, request={**TEXT.request, "logprobs": False, "max_tokens": 0})
    run = run_of(plain, max_tokens=0)
    events = written(run)
    assert not run.requests(1)
    assert answer(plain, events)["usage"] == {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}
    assert answer(plain, events)["choices"] == [{"text": "a b", "index": 0, "finish_reason": "length"}]


def test_the_room_of_an_answer() -> None:
    model = Model("m", "m", "", "1", ("chat",), context_length=10, max_tokens=8)
    assert token_limit({}, model, prompt_tokens=4) == 6
    assert token_limit({}, model, prompt_tokens=1) == 8
    assert token_limit({"max_tokens": 0}, model, prompt_tokens=10) == 0
    assert token_limit({}, replace(model, default_max_tokens=3), prompt_tokens=4) == 3


@pytest.mark.parametrize(
    ("asked", "field", "engines"),
    [
        ({"logit_bias": {"1": 1.0}}, "logit_bias", "fake or transformers or vllm"),
        ({"logprobs": True, "top_logprobs": 1}, "top_logprobs", "fake or transformers or vllm"),
        ({"logprobs": True, "top_logprobs": 1, "prompt": "a"}, "logprobs", "fake or transformers or vllm"),
        ({"logprobs": True, "echo": True, "prompt": "a"}, "echo", "fake or transformers or vllm"),
    ],
)
def test_what_an_engine_can_not_do_is_refused_with_those_that_can(
    asked: dict[str, Any], field: str, engines: str
) -> None:
    model = load_catalog(Settings()).get("smollm2-135m")
    with pytest.raises(InvalidRequest) as refused:
        with_defaults(model, asked)
    ((text,),) = refused.value.errors.values()
    assert list(refused.value.errors) == [field]
    assert text.endswith(f"Engines that can: {engines}.")
    neutral = {"logit_bias": None, "min_p": 0.0, "repetition_penalty": 1.0, "top_logprobs": 0, "logprobs": True}
    assert with_defaults(model, neutral)["logprobs"] is True


def pieces(*choices: dict[str, Any]) -> list[Any]:
    from tests.unit.test_provider_bodies import HI, VLLM, ask

    reader = Chunks(ask(VLLM, {"messages": HI}), "p")
    found = [piece for choice in choices for piece in reader.take(WireEvent("", json.dumps({"choices": [choice]})))]
    return [entry for piece in found for entry in piece.logprobs]


def test_those_of_a_provider_are_kept_in_both_of_its_shapes() -> None:
    content = [{"token": "a", "logprob": -1, "top_logprobs": [{"token": "b", "logprob": -0.5, "bytes": [226]}, 7]}]
    assert pieces({"delta": {"content": "a"}, "logprobs": {"content": content}}) == [
        ("a", -1.0, 0, "", [["b", -0.5, "e2"]])
    ]
    listed = {"tokens": ["a", "c"], "token_logprobs": [-1, -2], "top_logprobs": [{"c": -3, "b": -0.5}]}
    assert pieces({"text": "ac", "logprobs": listed}) == [
        ("a", -1.0, 0, "", [["b", -0.5], ["c", -3.0]]),
        ("c", -2.0, 1),
    ]

"""Jobs whose answers have reasoning and calls: what goes into the journal, and what a resume makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.jobs.answer import extras, tool_calls
from gateway.jobs.events import Event
from gateway.jobs.journal import fold, usage
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from gateway.views.text import answer
from workers.answers.of_model import ModelAnswers
from workers.engines.base import SequenceOutput
from workers.handlers.generation_run import Run
from workers.tokenizers.load import Messages

#: Control tokens, from this id on.
FIRST_CONTROL = 0x110000


class Letters:
    """Tokens are letters, or control tokens. `«name»` is a control token, where ids are made of text."""

    eos_ids: tuple[int, ...] = (FIRST_CONTROL,)
    digest = "letters"

    def __init__(self, template: str = "<tool_call> <think>", control: Sequence[str] = ()) -> None:
        self.template_texts: Sequence[str] = [template]
        self.control: Mapping[str, int] = {name: FIRST_CONTROL + i for i, name in enumerate(["<end>", *control])}

    def check(self) -> list[str]:
        return []

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def ids(self, text: str) -> list[int]:
        found: list[int] = []
        for part in text.split("«"):
            name, mark, rest = part.partition("»")
            found += [self.control[name], *self.encode(rest)] if mark else self.encode(part)
        return found

    def encode_prompt(self, text: str, *, most: int | None = None) -> list[int]:
        return self.encode(text)

    def render_chat(
        self,
        messages: Messages,
        *,
        tools: Messages | None = None,
        variables: Mapping[str, Any] | None = None,
        at_ms: int = 0,
        most: int | None = None,
    ) -> list[int]:
        return self.encode("".join(str(message["content"]) for message in messages))

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode() if token_id < FIRST_CONTROL else b""

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode()


TOOL = {"type": "function", "function": {"name": "now", "parameters": {}}}
ASKED: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "messages": [{"role": "user", "content": "hi"}]}
JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "key", ASKED, claim="c")
ANSWER = (
    '<think>\nWell, then.\n</think>\n\nI look.\n<tool_call>{"name": "now", "arguments": {"at": "Zürich"}}</tool_call>\n'
)
ANSWER += '<tool_call>{"name": "now", "arguments": {}}</tool_call>'


class Journal:
    """What claims write, one behind the other."""

    def __init__(self, tokenizer: Letters, prompt: str = "hi", **asked: Any) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        self.asked = {**ASKED, "tools": [TOOL], **asked}
        self.events: list[Event] = []

    def claim(self) -> Run:
        job = replace(JOB, seq=len(self.events), request=self.asked)
        answers, prompt = ModelAnswers(self.tokenizer), self.tokenizer.ids(self.prompt)
        plan = answers.plan(self.asked, prompt)
        self.run = Run(
            job,
            prompts=[prompt + answers.ids(plan.prefix)],
            tokenizer=self.tokenizer,
            max_tokens=3000,
            resume_point=ResumePoint.from_journal(job, self.events) if self.events else None,
            answers=answers,
            plan=plan,
            grammar_language="lark",
        )
        self.run.begin({"tokenizer": "letters"})
        self.write()
        return self.run

    def make(self, ids: Sequence[int], finish: str | None = None) -> bool:
        stopped = self.run.take(0, SequenceOutput(0, list(ids), None, finish))
        self.write()
        return stopped

    def write(self) -> None:
        while append := self.run.unconfirmed():
            self.events += [Event(len(self.events) + i, json.loads(e)) for i, e in enumerate(append.events, 1)]
            self.run.confirm(append)

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = answer(replace(JOB, request=self.asked), self.events)["choices"][0]
        return found


def whole(tokenizer: Letters, text: str, **asked: Any) -> Journal:
    journal = Journal(tokenizer, **asked)
    journal.claim()
    journal.make(tokenizer.ids(text), "stop")
    return journal


def test_reasoning_content_and_calls_stand_apart() -> None:
    found = whole(Letters(), ANSWER).message
    calls = found["message"]["tool_calls"]
    assert found["finish_reason"] == "tool_calls"
    assert found["message"]["content"] == "I look."
    assert found["message"]["reasoning_content"] == "Well, then."
    assert [call["function"] for call in calls] == [
        {"name": "now", "arguments": '{"at": "Zürich"}'},
        {"name": "now", "arguments": "{}"},
    ]
    assert len({call["id"] for call in calls}) == 2
    assert all(call["id"].startswith("call_") and call["type"] == "function" for call in calls)


def test_it_is_the_same_answer_wherever_it_was_interrupted() -> None:
    tokenizer = Letters()
    ids = tokenizer.ids(ANSWER)
    once = whole(tokenizer, ANSWER)
    for cut in range(len(ids)):
        journal = Journal(tokenizer)
        journal.claim()
        journal.make(ids[:cut])
        (request,) = journal.claim().requests(0)
        assert request.prompt_ids == [*tokenizer.ids("hi"), *ids[:cut]]
        journal.make(ids[cut:], "stop")
        assert journal.message == once.message, ANSWER[:cut]
        assert usage(journal.events) == usage(once.events)


def test_what_was_not_yet_published_is_published_after_a_resume() -> None:
    """The last worker held less text back than this one, or wrote none at all."""
    tokenizer = Letters()
    journal = Journal(tokenizer)
    journal.claim()
    journal.make(tokenizer.ids(ANSWER))
    journal.events = [
        Event(e.seq, {name: value for name, value in e.body.items() if name not in ("text", "extra", "tool_calls")})
        for e in journal.events
    ]
    journal.claim()
    journal.make([], "stop")
    assert journal.message == whole(tokenizer, ANSWER).message


def test_an_answer_that_had_ended_is_closed_without_the_engine() -> None:
    tokenizer = Letters()
    journal = Journal(tokenizer)
    journal.claim()
    journal.make(tokenizer.ids(ANSWER + "«<end>»"))
    assert journal.claim().requests(0) == []
    assert journal.message == whole(tokenizer, ANSWER).message


def test_tokens_of_reasoning_are_counted() -> None:
    tokenizer = Letters("[THINK] <tool_call>", ["[THINK]", "[/THINK]"])
    journal = whole(tokenizer, "«[THINK]»abc«[/THINK]»Yes.")
    assert journal.message["message"] == {"role": "assistant", "content": "Yes.", "reasoning_content": "abc"}
    assert usage(journal.events) == {
        "prompt_tokens": 2,
        "completion_tokens": 9,
        "total_tokens": 11,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert journal.run.usage() == usage(journal.events)
    assert journal.message["finish_reason"] == "stop"


def test_the_prompt_may_open_the_reasoning() -> None:
    assert whole(Letters(), "So.</think>Yes.", prompt="hi<think>\n").message["message"]["reasoning_content"] == "So."
    shut = whole(Letters(), "Yes.", prompt="hi<think>\n\n</think>\n\n").message["message"]
    assert shut == {"role": "assistant", "content": "Yes."}


def test_only_one_call_where_they_may_not_be_parallel() -> None:
    tokenizer = Letters()
    journal = Journal(tokenizer, parallel_tool_calls=False)
    journal.claim()
    assert journal.make(tokenizer.ids(ANSWER))
    message = journal.message
    assert len(message["message"]["tool_calls"]) == 1
    assert message["finish_reason"] == "tool_calls"
    spoken = ANSWER[: ANSWER.index("}}") + 2]
    assert usage(journal.events)["completion_tokens"] == len(spoken)


def test_who_has_no_tools_makes_no_calls() -> None:
    for asked in ({"tools": None}, {"tool_choice": "none"}):
        found = whole(Letters(), '<tool_call>{"name": "now"}</tool_call>', **asked).message
        assert found["message"] == {"role": "assistant", "content": '<tool_call>{"name": "now"}</tool_call>'}
        assert found["finish_reason"] == "stop"


def test_a_cut_answer_says_so() -> None:
    tokenizer = Letters()
    journal = Journal(tokenizer)
    journal.claim()
    journal.make(tokenizer.ids('<tool_call>{"name": "now", "arguments": {"a'), "length")
    assert journal.message["finish_reason"] == "length"
    assert journal.message["message"]["tool_calls"][0]["function"]["arguments"] == '{"a'


def test_a_stop_text_ends_an_answer_with_calls_too() -> None:
    tokenizer = Letters()
    journal = Journal(tokenizer, stop=["look"])
    journal.claim()
    assert journal.make(tokenizer.ids(ANSWER))
    assert journal.message["message"]["content"] == "I "
    assert journal.message["finish_reason"] == "stop"


def test_reasoning_that_another_model_began_is_gone_on_with() -> None:
    tokenizer = Letters()
    bodies: list[dict[str, Any]] = [
        {"type": "started", "c": "p", "model": "far", "prompt_tokens": 4},
        {"type": "delta", "c": "p", "extra": [{"reasoning_content": "We"}]},
        {"type": "interrupted", "c": "p", "model": "far", "mode": "continue", "completion_tokens": 3},
    ]
    journal = Journal(tokenizer)
    journal.events = [Event(seq, body) for seq, body in enumerate(bodies, 1)]
    (request,) = journal.claim().requests(0)
    assert request.prompt_ids == tokenizer.ids("hi<think>We")
    journal.make(tokenizer.ids("ll.</think>Yes."), "stop")
    (choice,) = fold(journal.events)
    assert (choice.text, extras.merge(choice.extra)) == ("Yes.", {"reasoning_content": "Well."})


def test_calls_are_numbered_behind_those_of_another_model() -> None:
    tokenizer = Letters()
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    bodies: list[dict[str, Any]] = [
        {"type": "started", "c": "p", "model": "far", "prompt_tokens": 4},
        {"type": "delta", "c": "p", "text": "Hm", "tool_calls": [call]},
        {"type": "interrupted", "c": "p", "model": "far", "mode": "continue", "completion_tokens": 3},
    ]
    journal = Journal(tokenizer)
    journal.events = [Event(seq, body) for seq, body in enumerate(bodies, 1)]
    journal.claim()
    journal.make(tokenizer.ids('<tool_call>{"name": "now"}</tool_call>'), "stop")
    assert [call["function"]["name"] for call in tool_calls.merge(fold(journal.events)[0].tool_calls)] == ["a", "now"]


def test_a_model_without_a_known_format_refuses_tools() -> None:
    answers = ModelAnswers(Letters("{{ tools }}"))
    with pytest.raises(InvalidRequest, match="not known how m writes tool calls"):
        answers.require({"tools": [TOOL]}, "m")
    answers.require({"tools": [TOOL], "tool_choice": "none"}, "m")
    ModelAnswers(Letters("{{ tools }}"), tools="llama").require({"tools": [TOOL]}, "m")

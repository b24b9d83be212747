"""Kills in the middle of tool calls: each is valid in the end, and the very call that nobody disturbed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.grammars.lark import to_lark
from gateway.jobs.answer import tool_calls
from gateway.jobs.journal import fold
from tests.faults.test_formed_answers import KILLS, SCHEMA, STREAMS, kill
from tests.stack import Stack, Stream, chat, eventually, running
from workers.answers.of_model import ModelAnswers
from workers.engines.grammars.fake_form import FakeForm
from workers.tokenizers.load import FakeTokenizer

MODEL = "caller"
CATALOG = f"""
[models.{MODEL}]
capabilities = ["chat", "tool_use"]
engine = "fake"
"""
ASKED: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "record", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "record"}},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("c")
    with running(folder, {MODEL: {"step_s": 0.01}}, grace_s=30.0, catalog=CATALOG) as stack:
        stack.wait_active(1)
        yield stack


def undisturbed(stream: Stream) -> str:
    """The text that the fake engine makes alone."""
    plan = ModelAnswers(FakeTokenizer()).plan({"messages": [], **ASKED}, [])
    assert plan.grammar is not None
    follower, ids = FakeForm(to_lark(plan.grammar)), list[int]()
    while (token := follower.next_token(f"{stream.job_id}/0", len(ids))) is not None:
        ids.append(token)
    return FakeTokenizer().decode(ids)


@pytest.mark.parametrize("what", ["engine", "worker"])
@pytest.mark.parametrize("number", range(KILLS))
def test_a_call_in_flight_is_the_one_that_nobody_disturbed(stack: Stack, what: str, number: int) -> None:
    stack.wait_active(1)
    streams = [chat(stack, f"Record river {i}.", model=MODEL, max_tokens=900, **ASKED) for i in range(STREAMS)]
    behind = random.Random(f"{what}{number}").randrange(50, 120)

    def written(stream: Stream) -> int:
        return sum(len(event.body.get("ids", ())) for event in stack.journal(stream.job_id)) if stream.job_id else 0

    eventually(lambda: all(stream.ended or written(stream) > behind for stream in streams), "all calls run")
    kill(stack, MODEL, what)
    for stream in streams:
        stream.join()
        assert (stream.finish_reason, stream.rewound, stream.text) == ("tool_calls", 0, ""), stream.error
        events = stack.journal(stream.job_id)
        (call,) = tool_calls.merge(fold(events)[0].tool_calls)
        jsonschema_rs.validate(SCHEMA, json.loads(call["function"]["arguments"]))
        text = undisturbed(stream)
        head, tail = '<tool_call>\n{"name": "record", "arguments": ', "}\n</tool_call>"
        assert text == head + call["function"]["arguments"] + tail
        assert sum(event.type.terminal for event in events) == 1
    assert any("resumed" in [event.type.value for event in stack.journal(stream.job_id)] for stream in streams)

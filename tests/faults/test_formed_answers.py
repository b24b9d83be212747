"""Kills in the middle of answers in a form: each is valid in the end, and one continuous answer.

With the fake engine it is the very answer that nobody disturbed; of a real model, what the journal's ids say.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.grammars.forms import form_of, grammar_of
from gateway.grammars.lark import to_lark
from gateway.models.catalog import load_catalog
from tests.faults.conftest import FULL
from tests.stack import Stack, Stream, chat, eventually, running
from workers.engines.grammars.fake_form import FakeForm
from workers.tokenizers.load import FakeTokenizer, load_tokenizer

REAL = "smollm2-135m"
STREAMS = 4
#: Kills of each kind: of the engine, and of the worker.
KILLS = 25 if FULL else 1
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 40, "maxLength": 60},
        "people": {
            "type": "array",
            "minItems": 2,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "minLength": 5, "maxLength": 20}, "age": {"type": "integer"}},
                "required": ["name", "age"],
                "additionalProperties": False,
            },
        },
        "kind": {"enum": ["größer", "kleiner", "gleich"]},
    },
    "required": ["title", "people", "kind"],
    "additionalProperties": False,
}
#: A real model takes as long to compile it as it has characters that are counted.
SHORT = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["größer", "kleiner", "gleich"]},
        "numbers": {"type": "array", "minItems": 30, "maxItems": 40, "items": {"enum": [1, 22, 333, "€", "drei"]}},
    },
    "required": ["kind", "numbers"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    models = {"fake": {"step_s": 0.01}, REAL: {}}
    with running(tmp_path_factory.mktemp("f"), models, grace_s=30.0) as stack:
        stack.wait_active(2)
        yield stack


def asked(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}}


def ask(stack: Stack, model: str, schema: Any) -> list[Stream]:
    questions = [f"Tell me of river number {i}, in JSON." for i in range(STREAMS)]
    return [chat(stack, text, model=model, max_tokens=800, **asked(schema)) for text in questions]


def undisturbed(stream: Stream) -> str:
    """What the fake engine makes of it alone."""
    form = form_of(asked(SCHEMA))
    assert form
    follower, ids = FakeForm(to_lark(grammar_of(form))), list[int]()
    while (token := follower.next_token(f"{stream.job_id}/0", len(ids))) is not None:
        ids.append(token)
    return FakeTokenizer().decode(ids)


def kill(stack: Stack, model: str, what: str) -> None:
    replica = stack.replica(model)
    os.kill(replica.engine_pid if what == "engine" else replica.pid, signal.SIGKILL)


def check(stack: Stack, stream: Stream, schema: Any) -> None:
    assert (stream.finish_reason, stream.rewound) == ("stop", 0), f"{stream.error} {stream.text}"
    jsonschema_rs.validate(schema, json.loads(stream.text))
    events = stack.journal(stream.job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert stream.seqs == sorted(set(stream.seqs))
    assert sum(event.type.terminal for event in events) == 1
    assert "".join(str(event.body.get("text", "")) for event in events) == stream.text


@pytest.mark.parametrize("what", ["engine", "worker"])
@pytest.mark.parametrize("number", range(KILLS))
def test_an_answer_of_the_fake_engine_is_the_one_that_nobody_disturbed(stack: Stack, what: str, number: int) -> None:
    stack.wait_active(2)
    streams = ask(stack, "fake", SCHEMA)
    behind = random.Random(f"{what}{number}").randrange(3, 25)
    eventually(lambda: all(len(stream.ids) > behind or stream.ended for stream in streams), "all streams run")
    kill(stack, "fake", what)
    for stream in streams:
        stream.join()
        check(stack, stream, SCHEMA)
        assert stream.text == undisturbed(stream)
    assert any("resumed" in [event.type.value for event in stack.journal(stream.job_id)] for stream in streams)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["engine", "worker"])
@pytest.mark.parametrize("number", range(KILLS))
def test_an_answer_of_a_real_model_is_one_continuous_answer(stack: Stack, what: str, number: int) -> None:
    stack.wait_active(2)
    model = load_catalog(stack.settings).get(REAL)
    tokenizer = load_tokenizer(str(model.path()), model.engine)
    streams = ask(stack, REAL, SHORT)
    behind = random.Random(f"{what}{number}").randrange(2, 20)
    eventually(lambda: all(len(stream.ids) > behind or stream.ended for stream in streams), "all streams run")
    kill(stack, REAL, what)
    for stream in streams:
        stream.join()
        check(stack, stream, SHORT)
        ids = [i for event in stack.journal(stream.job_id) for i in event.body.get("ids", ())]
        assert stream.text == tokenizer.decode(ids)
    assert any("resumed" in [event.type.value for event in stack.journal(stream.job_id)] for stream in streams)

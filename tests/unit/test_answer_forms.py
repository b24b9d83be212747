"""Answers in a form as a model worker runs them: what the engine is asked for, also when others have begun them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import GenerationFailed
from gateway.grammars.forms import form_of, grammar_of
from gateway.grammars.grammar import Grammar
from gateway.jobs.events import Event
from gateway.jobs.journal import Choice, fold
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from workers.answers.plan import Plan
from workers.engines.base import SequenceOutput
from workers.engines.grammars.fake_form import FIRST_BYTE, FakeForm
from workers.handlers.generation_run import Run
from workers.handlers.keeping_form import WholeCharacters, still_to_come
from workers.tokenizers.load import FakeTokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"enum": ["ä", "b"]}},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
REQUEST = {
    "messages": [{"role": "user", "content": "hi"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    "temperature": 1.0,
    "top_p": 1.0,
}


def spelled(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


def grammar() -> Grammar:
    form = form_of(REQUEST)
    assert form
    return grammar_of(form)


JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "key", REQUEST, claim="c")


class Journal:
    """A journal that claims write one behind the other, and an engine that makes the rest of the answer."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def claim(self, **asked: Any) -> Run:
        job = replace(JOB, seq=len(self.events), request={**REQUEST, **asked})
        run = Run(
            job,
            prompts=[[1, 2]],
            tokenizer=FakeTokenizer(),
            max_tokens=300,
            resume_point=ResumePoint.from_journal(job, self.events) if self.events else None,
            plan=Plan(grammar()),
            grammar_language="lark",
        )
        run.begin({"model": "m", "tokenizer": "fake", "weights": "w"})
        self.take(run)
        return run

    def make(self, run: Run, most: int) -> None:
        """So many tokens of each answer, in outputs of three, or all that are left of it."""
        for request in run.requests(0):
            assert request.sampling
            form, made, ended = FakeForm(request.sampling.grammar), list[int](), False
            while len(made) < most and not ended:
                token = form.next_token(request.key, request.generated + len(made))
                ended = token is None
                made += [] if token is None else [token]
            for at in range(0, len(made), 3):
                run.take(request.sequence_id, SequenceOutput(request.sequence_id, made[at : at + 3]))
            if ended:
                run.take(request.sequence_id, SequenceOutput(request.sequence_id, [], None, "stop"))
        self.take(run)

    def take(self, run: Run) -> None:
        while append := run.unconfirmed():
            for event in append.events:
                self.events.append(Event(len(self.events) + 1, json.loads(event)))
            run.confirm(append)

    @property
    def choices(self) -> list[Choice]:
        return fold(self.events, num_choices=2)


def test_an_answer_that_is_cut_anywhere_is_the_one_that_nobody_disturbed() -> None:
    whole = Journal()
    whole.make(whole.claim(n=2), 1000)
    texts = [choice.text for choice in whole.choices]
    assert all(SCHEMA["required"] == list(json.loads(text)) for text in texts)
    assert any(not text.isascii() for text in texts), "no character is cut here"
    for cut in range(1, max(len(text.encode()) for text in texts) + 1):
        journal = Journal()
        journal.make(journal.claim(n=2), cut)
        run = journal.claim(n=2)
        journal.make(run, 1000)
        assert [choice.text for choice in journal.choices] == texts, cut
        assert [choice.finish_reason for choice in journal.choices] == ["stop", "stop"], cut
        assert run.state is JobState.DONE


def test_an_answer_that_is_whole_ends_without_the_engine() -> None:
    """The end itself did not come into the journal."""
    journal = Journal()
    run = journal.claim()
    run.take(0, SequenceOutput(0, spelled('{"name":"","tags":["b"]}')))
    journal.take(run)
    again = journal.claim()
    assert again.requests(0) == []
    assert again.state is JobState.DONE
    assert (journal.choices[0].text, journal.choices[0].finish_reason) == ('{"name":"","tags":["b"]}', "stop")


def test_ids_of_unfinished_characters_are_kept_back_until_they_are_whole() -> None:
    whole = WholeCharacters(FakeTokenizer())
    euro = spelled("€")
    assert whole.push(SequenceOutput(0, [*spelled("a"), *euro[:1]], [-1.0, -2.0])) == SequenceOutput(
        0, spelled("a"), [-1.0]
    )
    assert whole.push(SequenceOutput(0, euro[1:2], [-3.0])) == SequenceOutput(0, [])
    assert whole.push(SequenceOutput(0, euro[2:], [-4.0])) == SequenceOutput(0, euro, [-2.0, -3.0, -4.0])
    assert whole.push(SequenceOutput(0, euro[:2], None, "length")) == SequenceOutput(0, euro[:2], None, "length")


def test_what_may_follow_is_what_is_left_of_the_form() -> None:
    begun = '{"name":"ä'
    text = still_to_come(grammar(), begun, "lark")
    form, ids = FakeForm(text), list[int]()
    while (token := form.next_token("k/0", len(begun.encode()) + len(ids))) is not None:
        ids.append(token)
    answer = json.loads(begun + FakeTokenizer().decode(ids))
    assert set(answer) == {"name", "tags"}
    assert answer["name"].startswith("ä")


def test_nothing_may_follow_a_whole_answer() -> None:
    assert still_to_come(grammar(), '{"name":"","tags":[]}', "lark") == ""


@pytest.mark.parametrize("language", ["lark", "ebnf"])
def test_a_beginning_without_the_form_is_an_error_of_its_job(language: str) -> None:
    with pytest.raises(GenerationFailed, match="does not have the form"):
        still_to_come(grammar(), "Sure! Here is", language)

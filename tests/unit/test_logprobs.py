"""Log probabilities of tokens that split characters: none is lost, and each says where its character is in the text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from gateway.store.codec import loads
from gateway.views.text import answer, chunks
from workers.engines.base import SequenceOutput
from workers.handlers.generation_run import Run
from workers.tokenizers.load import Tokenizer, load_tokenizer

TEXT = "😀 naïve 日本 😀 🏳️‍🌈 end"
PROMPT = "So: "


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    model = load_catalog(Settings()).get("smollm2-135m")
    return load_tokenizer(str(model.path()), "openvino")


def job_of(kind: str, **request: object) -> Job:
    base = {"temperature": 0.0, "top_p": 1.0, "logprobs": True, "prompt": PROMPT}
    return Job("j-1", JobState.RUNNING, kind, "m", "k", {**base, **request}, claim="c")


def journal(run: Run, ids: list[int]) -> Iterator[Event]:
    """Everything that a run writes while it is given these ids, one an append."""
    run.begin({"weights": "w"})
    for i, token_id in enumerate(ids):
        run.take(0, SequenceOutput(0, [token_id], [-0.5], "length" if i == len(ids) - 1 else None))
        while append := run.unconfirmed():
            yield from (Event(append.first_seq + n, loads(text)) for n, text in enumerate(append.events))
            run.confirm(append)


@pytest.mark.parametrize("echo", [True, False])
def test_each_token_has_its_entry_and_its_place(tokenizer: Tokenizer, echo: bool) -> None:
    ids, job = tokenizer.encode(TEXT), job_of("completion", echo=echo)
    events = list(journal(Run(job, prompts=[[1]], tokenizer=tokenizer, max_tokens=100), ids))
    whole = answer(job, events)["choices"][0]
    assert whole["text"] == (PROMPT if echo else "") + TEXT
    streamed = [
        choice["logprobs"]
        for event in events
        for chunk in chunks(job, event)
        for choice in chunk["choices"]
        if "logprobs" in choice
    ]
    for name in ("tokens", "token_logprobs", "text_offset"):
        joined = [value for found in streamed for value in found[name]]
        assert joined == whole["logprobs"][name]
        assert len(joined) == len(ids)
    found = whole["logprobs"]
    assert any("\ufffd" in token for token in found["tokens"]), "some tokens are a part of a character"
    for token, at in zip(found["tokens"], found["text_offset"], strict=True):
        if "\ufffd" not in token:
            assert whole["text"][at : at + len(token)] == token
    assert found["text_offset"] == sorted(found["text_offset"])
    assert found["text_offset"][-1] < len(whole["text"])


def test_the_bytes_of_a_chat_are_those_of_its_text(tokenizer: Tokenizer) -> None:
    ids, job = tokenizer.encode(TEXT), job_of("chat", messages=[])
    events = list(journal(Run(job, prompts=[[1]], tokenizer=tokenizer, max_tokens=100), ids))
    entries = answer(job, events)["choices"][0]["logprobs"]["content"]
    assert bytes(number for entry in entries for number in entry["bytes"]).decode() == TEXT


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_resume_goes_on_where_the_text_is(tokenizer: Tokenizer, cut: int) -> None:
    ids, job = tokenizer.encode(TEXT), job_of("completion")
    undisturbed = list(journal(Run(job, prompts=[[1]], tokenizer=tokenizer, max_tokens=100), ids))
    first = [event for event in undisturbed if event.seq <= 1 + cut]
    again = Job(**{**vars(job), "seq": first[-1].seq})
    run = Run(
        again, prompts=[[1]], tokenizer=tokenizer, max_tokens=100, resume_point=ResumePoint.from_journal(again, first)
    )
    events = first + list(journal(run, ids[cut:]))
    assert answer(job, events)["choices"][0]["logprobs"] == answer(job, undisturbed)["choices"][0]["logprobs"]

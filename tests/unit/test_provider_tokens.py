"""Tokens of an answer are charged as they come, and put right when the provider has counted them."""

from __future__ import annotations

import threading

from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.models.entry import Model, Provider
from gateway.store.codec import loads
from workers.providers.base import UpstreamDelta
from workers.providers.run import ProviderRun
from workers.providers.transcript import Transcript

#: 30 bytes, which count as 10 tokens until the provider says otherwise.
PIECE = UpstreamDelta(text="x" * 30)


def run_of(*journal: Event) -> ProviderRun:
    job = Job("j", JobState.RUNNING, "chat", "m", "k", {"messages": []}, claim="c", seq=len(journal))
    model = Model("m", "M", "", "1", ("chat",), provider="p")
    return ProviderRun(job, model, Provider("p", "openai"), Transcript(job, journal))


def test_estimates_are_charged_once_and_given_back_when_the_provider_has_counted_fewer() -> None:
    run = run_of()
    call = run.transcript.begin_call()
    assert run.new_tokens() == 0
    run.transcript.take(PIECE, call)
    assert [run.new_tokens(), run.new_tokens()] == [10, 0]
    run.transcript.take(PIECE, call)
    run.transcript.take(UpstreamDelta(prompt_tokens=1, completion_tokens=4), call)
    call.counted = True
    assert run.new_tokens() == 4 - 10
    assert run.usage()["completion_tokens"] == 4


def test_tokens_of_several_calls_add_up_over_an_event_that_records_them() -> None:
    run = run_of()
    run.transcript.take(PIECE, run.transcript.begin_call())
    run.transcript.record()
    run.transcript.take(PIECE, run.transcript.begin_call())
    assert run.new_tokens() == 20
    run.transcript.record()
    assert run.new_tokens() == 0


def test_what_an_earlier_claim_has_made_is_not_charged_again() -> None:
    first = run_of()
    first.open_call({}, threading.Event())
    first.transcript.take(PIECE, first.transcript.begin_call())
    first.take(PIECE)
    append = first.unconfirmed()
    assert append
    second = run_of(*(Event(i + 1, loads(text)) for i, text in enumerate(append.events)))
    assert second.transcript.made == 10, "the worker died before the provider had counted"
    assert second.new_tokens() == 0

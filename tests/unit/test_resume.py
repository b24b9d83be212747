"""A run that goes on from a journal: with its own ids, or from the text of one that has read or asked otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.jobs.events import Event
from gateway.jobs.record import RECORD_VERSION
from gateway.jobs.resume_point import last_weights
from tests.journals import Journal, Letters
from workers.engines.base import fresh_seed
from workers.handlers.generation_run import digest_of

ONE, OTHER = Letters(0), Letters(1000)


def test_the_first_event_names_version_prompt_and_digests() -> None:
    journal = Journal()
    journal.claim(ONE)
    assert journal.events[0].body == {
        "type": "started",
        "c": "c",
        "v": RECORD_VERSION,
        "model": "m",
        "tokenizer": "letters-0",
        "weights": "w1",
        "prompt": digest_of([ONE.encode("hi")]),
        "prompt_tokens": 2,
    }


def test_a_resume_with_the_same_tokenizer_and_prompt_goes_on_with_the_ids() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE), "abc")
    (request,) = journal.claim(ONE).requests(7)
    assert request.prompt_ids == ONE.encode("hiabc")
    assert request.generated == 3
    assert "changed" not in journal.of("resumed")


def test_with_another_tokenizer_the_answer_goes_on_from_its_text() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE), "abc")
    run = journal.claim(OTHER)
    (request,) = run.requests(7)
    assert request.prompt_ids == OTHER.encode("hiabc")
    resumed = journal.of("resumed")
    assert (resumed["changed"], resumed["mode"]) == ("tokenizer", "continue")
    journal.make(run, "def", finish="length")
    assert journal.text == "abcdef"
    # The prompt counts once, and each token as whoever made it has counted it.
    assert journal.of("done")["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


def test_with_another_prompt_it_goes_on_from_its_text_too() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE, prompt="hi"), "abc")
    (request,) = journal.claim(ONE, prompt="ho").requests(7)
    assert request.prompt_ids == ONE.encode("hoabc")
    assert journal.of("resumed")["changed"] == "prompt"


def test_who_comes_behind_the_other_tokenizer_has_its_ids_and_the_text_before() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE), "abc")
    journal.make(journal.claim(OTHER), "de")
    run = journal.claim(OTHER)
    assert run.requests(7)[0].prompt_ids == OTHER.encode("hiabcde")
    assert "changed" not in journal.of("resumed")
    journal.make(run, "f")
    back = journal.claim(ONE)
    assert back.requests(7)[0].prompt_ids == ONE.encode("hiabcdef")
    assert journal.of("resumed")["changed"] == "tokenizer"
    journal.make(back, "g", finish="stop")
    assert journal.text == "abcdefg"
    assert journal.of("done")["usage"]["completion_tokens"] == 7


def test_choices_that_have_ended_stay_ended() -> None:
    journal = Journal()
    run = journal.claim(ONE, n=2)
    journal.make(run, "abc", finish="stop")
    journal.make(run, "xy", index=1)
    (request,) = journal.claim(OTHER, n=2).requests(7)
    assert (request.sequence_id, request.prompt_ids) == (8, OTHER.encode("hixy"))


def test_a_journal_of_an_older_version_fits() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE), "abc")
    old = {name: value for name, value in journal.events[0].body.items() if name not in ("tokenizer", "prompt", "v")}
    journal.events[0] = Event(1, old)
    assert journal.claim(ONE).requests(7)[0].prompt_ids == ONE.encode("hiabc")


def test_other_weights_are_said_to_the_end() -> None:
    journal = Journal()
    journal.make(journal.claim(ONE, weights="w1"), "a")
    journal.make(journal.claim(ONE, weights="w1"), "b")
    assert "weights_changed" not in journal.of("resumed")
    journal.make(journal.claim(ONE, weights="w2"), "c")
    assert journal.of("resumed")["weights_changed"] is True
    assert last_weights(journal.events) == "w2"
    run = journal.claim(ONE, weights="w2")
    journal.make(run, "d", finish="stop")
    assert journal.of("done")["weights_changed"] is True
    assert run.requests(7) == []


def test_the_noise_of_a_seed_is_not_drawn_twice() -> None:
    assert fresh_seed(5, 0) == 5
    later = {fresh_seed(seed, n) for seed in range(6) for n in range(1, 50)}
    assert len(later) == 6 * 49
    assert fresh_seed(6, 20) == fresh_seed(6, 20)
    assert all(0 <= seed < 2**31 for seed in later)


def test_each_answer_has_a_seed_of_its_own_and_keeps_it() -> None:
    journal = Journal()
    run = journal.claim(ONE, n=2)
    assert [r.sampling.seed for r in run.requests(7) if r.sampling] == [5, 6]
    journal.make(run, "abc")
    resumed = journal.claim(ONE, n=2).requests(7)
    assert [(r.sampling.seed, r.generated) for r in resumed if r.sampling] == [(5, 3), (6, 0)]


@pytest.mark.parametrize("mode", ["continue", "restart"])
def test_a_change_behind_a_takeover_keeps_what_the_takeover_kept(mode: str) -> None:
    """Another model began with xyz and handed over; then workers with two tokenizers."""
    journal = Journal()
    bodies: list[dict[str, Any]] = [
        {"type": "started", "c": "p", "model": "far", "prompt_tokens": 4},
        {"type": "delta", "c": "p", "text": "xyz"},
        {"type": "interrupted", "c": "p", "model": "far", "mode": mode, "completion_tokens": 3},
    ]
    journal.events = [Event(seq, body) for seq, body in enumerate(bodies, 1)]
    stays = "xyz" if mode == "continue" else ""
    run = journal.claim(ONE)
    assert run.requests(7)[0].prompt_ids == ONE.encode("hi" + stays)
    journal.make(run, "ab")
    run = journal.claim(OTHER)
    assert run.requests(7)[0].prompt_ids == OTHER.encode("hi" + stays + "ab")
    journal.make(run, "c", finish="stop")
    assert journal.of("done")["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}

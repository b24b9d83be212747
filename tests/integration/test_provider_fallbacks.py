"""Remote answers that break: another model takes over, the same one goes on, or a clear error ends it.

A provider worker that dies is a break too.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.jobs.events import EventType
from tests.metrics import Scrape
from tests.stack import Stream, chat, eventually
from tests.upstreams.base import WORDS, Fault, answer
from tests.upstreams.openai import ARGUMENTS
from tests.upstreams.world import PATIENT, Tables, World
from tests.upstreams.world import world as run
from workers.engines.fake import fake_token

#: A running job without progress for so long is taken from its worker.
STALL_S = 4.0


def tables(openai_url: str, anthropic_url: str) -> tuple[Tables, Tables]:
    oa = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT, "max_retries": 1}
    an = {**oa, "protocol": "anthropic", "base_url": anthropic_url, "api_key_env": "UP_ANTHROPIC_KEY"}
    providers = {
        "oa": oa,
        "oa-prefix": {**oa, "continuation": "prefix"},
        "oa-wrong": {**oa, "api_key_env": "UP_WRONG_KEY"},
        "an": an,
    }

    def model(provider: str, **more: Any) -> dict[str, Any]:
        return {"capabilities": ["chat", "completion"], "provider": provider, **more}

    models = {
        "an-model": model("an"),
        "an-restart": model("an", on_interrupt="restart"),
        "an-fail": model("an", on_interrupt="fail", fallbacks=["fake"]),
        "plain": model("oa"),
        "prefix": model("oa-prefix"),
        "oa-tools": {**model("oa-prefix"), "capabilities": ["chat", "tool_use"]},
        "to-an": model("oa", fallbacks=["an-model"]),
        "to-an-anew": model("oa", fallbacks=["an-model"], on_interrupt="restart"),
        "to-local": model("oa", fallbacks=["fake"]),
        "to-plain": model("oa", fallbacks=["plain"]),
        "to-plain-then-an": model("oa", fallbacks=["plain", "an-model"]),
        "to-an-or-local": model("oa", fallbacks=["an-model", "fake"]),
        "wrong": model("oa-wrong", fallbacks=["an-model"]),
    }
    return providers, models


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with run(tmp_path_factory.mktemp("s"), tables, breaker_failures=4, breaker_open_s=60.0, stall_s=STALL_S) as world:
        yield world


@pytest.fixture
def world(started: World) -> World:
    """Each test begins with servers that do nothing wrong."""
    started.calm()
    return started


def unbroken(world: World, stream: Stream) -> list[Any]:
    """The journal, after a look at its numbers: no gap and no repeat."""
    journal = world.stack.journal(stream.job_id)
    assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
    assert stream.seqs == sorted(set(stream.seqs))
    assert sum(event.type.terminal for event in journal) == 1
    return journal


def test_another_provider_goes_on_in_mid_answer(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    stream = chat(world.stack, "one two three", model="to-an").join()
    assert (stream.text, stream.error, stream.rewound) == (answer(), None, 0)
    journal = unbroken(world, stream)
    interrupted = next(event for event in journal if event.type is EventType.INTERRUPTED)
    assert (interrupted.body["model"], interrupted.body["next"]) == ("to-an", "an-model")
    assert interrupted.body["reason"] == "upstream_interrupted"
    assert world.anthropic.received[0].body["messages"][-1] == {"role": "assistant", "content": answer(5)}
    job = world.job(stream.job_id)
    assert job["result"]["served_by"] == ["to-an", "an-model"]
    # The second call counts what it read, with the beginning of the answer, and what it added.
    assert job["usage"]["prompt_tokens"] > 3 + 5
    assert job["usage"]["completion_tokens"] >= WORDS


def test_calls_and_hand_overs_are_counted(world: World) -> None:
    with world.stack.client() as client:
        before = Scrape(client)
        world.openai.faults.append(Fault("cut", after=5))
        assert chat(world.stack, model="to-an").join().error is None
        world.openai.faults.append(Fault("hold", after=2))
        left = chat(world.stack, model="plain")
        assert world.openai.held.acquire(timeout=60)
        eventually(lambda: left.job_id, "the client knows its job")
        client.delete(f"/jobs/{left.job_id}")
        left.join()
        name = "headrace_provider_call_duration_seconds_count"

        def more(provider: str, end: str) -> float:
            told = {"provider": provider, "end": end}
            return Scrape(client).total(name, **told) - before.total(name, **told)

        eventually(lambda: more("oa", "cancelled") == 1, "the call that nobody waits for is counted")
        assert (more("oa", "upstream_interrupted"), more("an", "done")) == (1, 1)
        name, told = "headrace_resumes_total", {"model": "to-an", "cause": "handed_over"}
        assert Scrape(client).total(name, **told) - before.total(name, **told) == 1


def test_a_local_model_goes_on_in_mid_answer(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=2))
    stream = chat(world.stack, model="to-local", max_tokens=6).join()
    journal = unbroken(world, stream)
    assert stream.text.startswith(answer(2))
    rest = stream.text.removeprefix(answer(2)).split()
    assert rest == [f"w{fake_token(f'{stream.job_id}/0', i)}" for i in range(2, 6)]
    assert {event.claim for event in journal if event.type is EventType.DELTA} == {event.claim for event in journal}


def test_a_restart_voids_the_text_and_begins_anew(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    stream = chat(world.stack, model="to-an-anew").join()
    assert (stream.text, stream.error, stream.rewound) == (answer(), None, 1)
    unbroken(world, stream)
    assert len(world.anthropic.received[0].body["messages"]) == 1
    assert world.job(stream.job_id)["result"]["choices"][0]["message"]["content"] == answer()


def test_a_restart_ends_the_stream_of_a_client_that_can_not_take_text_back(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    body = {"model": "to-an-anew", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with world.stack.client() as client:
        lines = client.post("/v1/chat/completions", json=body).text
    assert "Some of this answer is void" in lines
    assert lines.rstrip().endswith("data: [DONE]")


def test_nobody_can_go_on(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    stream = chat(world.stack, model="to-plain").join()
    assert stream.text == answer(5)
    assert stream.error is not None
    assert "no model that may take over can go on" in stream.error["message"]
    assert stream.error["data"]["provider"] == "oa"
    assert len(world.openai.received) == 1
    unbroken(world, stream)


FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "a"}}


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("prefix", {"response_format": FORM}),
        ("to-an", {"structured_outputs": {"json": {"type": "object"}}}),
        ("oa-tools", {"tools": [TOOL]}),
    ],
)
def test_an_answer_that_must_be_whole_begins_anew(world: World, model: str, asked: dict[str, Any]) -> None:
    """Whoever goes on freely from a text can promise no form, and nobody goes on with a call."""
    world.openai.faults.append(Fault("cut", after=2))
    body = {"messages": [{"role": "user", "content": "hi"}], **asked}
    stream = Stream(world.stack, f"/models/{model}/chat/completions", body).start().join()
    assert (stream.error, stream.rewound) == (None, 1)
    unbroken(world, stream)
    server = world.anthropic if model == "to-an" else world.openai
    assert server.received[-1].body["messages"] == [{"role": "user", "content": "hi"}]
    message = world.job(stream.job_id)["result"]["choices"][0]["message"]
    if "tools" in asked:
        assert [call["function"]["arguments"] for call in message["tool_calls"]] == [ARGUMENTS]
    else:
        assert message["content"] == answer()


def test_the_first_fallback_that_can_go_on_is_taken(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    stream = chat(world.stack, model="to-plain-then-an").join()
    assert (stream.text, stream.error) == (answer(), None)
    assert world.job(stream.job_id)["result"]["served_by"] == ["to-plain-then-an", "an-model"]


@pytest.mark.parametrize("model", ["prefix", "an-model"])
def test_the_same_provider_goes_on_if_it_can(world: World, model: str) -> None:
    server = world.openai if model == "prefix" else world.anthropic
    server.faults.append(Fault("cut", after=5))
    stream = chat(world.stack, model=model).join()
    assert (stream.text, stream.error) == (answer(), None)
    begun = server.received[1].body["messages"][-1]
    assert (begun["role"], begun["content"]) == ("assistant", answer(5))
    assert "served_by" not in world.job(stream.job_id)["result"]
    unbroken(world, stream)


def test_each_of_several_answers_goes_on_by_itself(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=5))
    answered = world.post("prefix/chat/completions", messages=[{"role": "user", "content": "hi"}], n=2)
    assert [choice["message"]["content"] for choice in answered["choices"]] == [answer()] * 2
    begun = [received.body["messages"][-1]["content"] for received in world.openai.received[1:]]
    assert sorted(begun) == sorted([answer(3), answer(2)])
    assert answered["usage"]["completion_tokens"] >= 2 * WORDS


def test_a_provider_that_refuses_to_go_on_is_passed_over(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=2))
    world.anthropic.faults.append(Fault("status", status=400))
    stream = chat(world.stack, model="to-an-or-local", max_tokens=6).join()
    assert stream.error is None
    assert stream.text.startswith(answer(2))
    assert world.job(stream.job_id)["result"]["served_by"] == ["to-an-or-local", "an-model", "fake"]
    unbroken(world, stream)
    world.openai.faults.append(Fault("cut", after=2))
    world.anthropic.faults.append(Fault("status", status=400))
    stream = chat(world.stack, model="to-an").join()
    assert stream.error is not None
    assert (stream.error["data"]["reason"], stream.text) == ("upstream_interrupted", answer(2))


def test_a_completion_goes_on_from_its_text(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=3))
    stream = Stream(world.stack, "/models/plain/completions", {"prompt": "Once", "max_tokens": 6}).start().join()
    assert stream.error is None
    assert world.openai.received[1].body["prompt"] == f"Once{answer(3)}"
    assert stream.text.startswith(answer(3))
    unbroken(world, stream)


@pytest.mark.parametrize("model", ["to-an", "wrong"])
def test_a_fallback_takes_over_before_anything_is_there(world: World, model: str) -> None:
    world.openai.faults += [Fault("status", status=503)] * 2
    answered = world.post(f"{model}/chat/completions", messages=[{"role": "user", "content": "hi"}])
    assert answered["choices"][0]["message"]["content"] == answer()
    assert (answered["model"], answered["served_by"]) == ("an-model", [model, "an-model"])


def test_a_refused_request_goes_nowhere_else(world: World) -> None:
    world.openai.faults.append(Fault("status", status=400))
    assert world.ask("to-an").status_code == 422
    assert not world.anthropic.received


def test_an_open_circuit_sends_requests_to_the_fallback_at_once(world: World) -> None:
    world.openai.faults += [Fault("status", status=500)] * 4
    assert [world.ask("plain").status_code for _ in range(2)] == [502, 502]
    with world.stack.client() as client:
        eventually(lambda: client.get("/models/to-an").json()["data"]["status"] == "unavailable", "it is seen")
    before = len(world.openai.received)
    answered = world.ask("to-an").json()["data"]
    assert (answered["model"], len(world.openai.received)) == ("an-model", before)


# -- the worker dies


def killed(world: World, model: str, number: int = signal.SIGKILL, after: int = 4) -> Stream:
    """A stream whose provider worker was ended in the middle, and another one started."""
    server = world.anthropic
    server.faults.append(Fault("hold", after=after))
    stream = chat(world.stack, "one two three", model=model)
    assert server.held.acquire(timeout=60)
    eventually(lambda: stream.text == answer(after), "what was brought has come")
    world.stack.kill("provider", number)
    assert server.left.acquire(timeout=60), "its connection is closed"
    world.start_worker()
    return stream.join()


def test_a_killed_worker_loses_no_answer_that_can_go_on(world: World) -> None:
    stream = killed(world, "an-model")
    assert (stream.text, stream.error, stream.rewound) == (answer(), None, 0)
    journal = unbroken(world, stream)
    resumed = next(event for event in journal if event.type is EventType.RESUMED)
    assert resumed.body["reason"] == "upstream_interrupted"
    assert resumed.body["estimated"], "the first call was paid for too"
    assert resumed.body["completion_tokens"] > 0
    used = world.job(stream.job_id)["usage"]
    assert used["completion_tokens"] == resumed.body["completion_tokens"] + WORDS - 4
    assert used["prompt_tokens"] == resumed.body["prompt_tokens"] + 3 + 4


def test_a_killed_worker_has_its_answer_begun_anew_if_the_model_says_so(world: World) -> None:
    stream = killed(world, "an-restart")
    assert (stream.text, stream.error, stream.rewound) == (answer(), None, 1)
    unbroken(world, stream)


def test_a_killed_worker_fails_its_job_if_the_model_says_so(world: World) -> None:
    stream = killed(world, "an-fail")
    assert stream.text == answer(4)
    assert stream.error is not None
    assert stream.error["data"]["reason"] == "upstream_interrupted"
    assert "worker that ran it was lost" in stream.error["message"]
    assert len(world.anthropic.received) == 1, "it is not paid for twice"
    assert world.job(stream.job_id)["usage"]["completion_tokens"] > 0
    unbroken(world, stream)


def test_a_worker_that_was_asked_to_end_hands_its_job_to_the_next(world: World) -> None:
    stream = killed(world, "an-model", signal.SIGTERM)
    assert (stream.text, stream.error) == (answer(), None)
    unbroken(world, stream)


def test_redis_dies_in_mid_answer(world: World) -> None:
    world.anthropic.faults.append(Fault("hold", after=4))
    stream = chat(world.stack, model="an-model")
    assert world.anthropic.held.acquire(timeout=60)
    eventually(lambda: stream.text == answer(4), "what was brought has come")
    world.stack.kill("redis")
    world.anthropic.go.set()
    world.stack.start_redis()
    stream.join()
    assert (stream.text, stream.error) == (answer(), None)
    assert len(world.anthropic.received) == 1
    unbroken(world, stream)


def test_a_provider_that_thinks_for_long_is_not_taken_for_a_stall(world: World) -> None:
    world.anthropic.faults.append(Fault("hold", after=-1))
    stream = chat(world.stack, model="an-model")
    assert world.anthropic.held.acquire(timeout=60)
    eventually(lambda: stream.job_id, "the job has an id")
    now = world.stack.store.clock.now_ms()
    later = now + STALL_S * 1000 + 1000
    eventually(lambda: world.stack.store.read(stream.job_id).progress_at > later, "the worker says that it waits")
    world.anthropic.go.set()
    assert (stream.join().text, len(world.anthropic.received)) == (answer(), 1)


def test_a_fallback_that_can_not_do_it_is_passed_over(world: World) -> None:
    world.openai.faults += [Fault("status", status=503)] * 2
    turns = [{"role": "user", "content": "hi"}]
    answered = world.post("to-an-or-local/chat/completions", messages=turns, seed=3, max_tokens=2)
    assert answered["model"] == "fake", "Anthropic's API has no seed"
    skipped = [event.body.get("skipped") for event in world.stack.journal(answered["id"])]
    why = "The request is not valid. seed: Got 3; this provider's API has no seed. Leave it out."
    assert {"an-model": why} in skipped


def test_a_client_that_leaves_ends_the_call(world: World) -> None:
    world.anthropic.faults.append(Fault("hold", after=2))
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with world.stack.client() as client, client.stream("POST", "/models/an-model/chat/completions", json=body) as lines:
        assert world.anthropic.held.acquire(timeout=60)
        job_id = lines.headers["X-Job-Id"]
    assert world.anthropic.left.acquire(timeout=60), "the server has seen it"
    eventually(lambda: world.job(job_id)["status"] == "cancelled", "the job has ended")


def test_catalog_changes_are_followed(world: World) -> None:
    config = world.stack.settings.config
    config.write_text('[models.later]\ncapabilities = ["chat"]\nprovider = "oa"\n')
    with world.stack.client() as client:
        eventually(lambda: client.get("/models/later").status_code == 200, "the web process knows it")
        assert world.ask("later").json()["data"]["choices"][0]["message"]["content"] == answer()
        config.write_text("")
        eventually(lambda: client.get("/models/later").status_code == 404, "it is gone")
    assert world.ask("plain").status_code == 200

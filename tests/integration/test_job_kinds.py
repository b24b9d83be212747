"""A new kind of job is one class and one line: here one that counts the letters of a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis

from gateway.cluster.registry import Registry, Replica
from gateway.context import Gateway
from gateway.errors import InvalidRequest
from gateway.jobs import control
from gateway.jobs.events import Append, Event
from gateway.jobs.job_kind import JobKind, kind_of
from gateway.jobs.kinds import KINDS, Entry
from gateway.jobs.record import Job, JobState
from gateway.jobs.store import JobStore
from gateway.models.entry import Model
from gateway.settings import Settings
from gateway.store.codec import dumps
from gateway.views import jobs as views


class Letters(JobKind):
    """How many letters a text has."""

    capability = "chat"
    ended: list[str] = []

    def complete(self, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
        if "prompt" not in request:
            raise InvalidRequest.of({"prompt": ["It is missing."]})
        return {**request, "case": request.get("case", "any")}

    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        return [{"letters": event.body["text"]}] if "text" in event.body else []

    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        return {"case": job.request["case"], "letters": sum(len(event.body.get("text", "")) for event in events)}

    def on_end(self, store: JobStore, job: Job) -> None:
        self.ended.append(job.id)


@pytest.fixture
def gateway(settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setitem(KINDS, "letters", Entry("lett", f"{__name__}:Letters"))
    gateway = Gateway.connect(settings)
    Registry(redis_client).heartbeat(Replica("i", "r", "fake", "n", "cpu0", "active", 1), lease_s=60)
    with closing(gateway.hub), closing(gateway.redis):
        yield gateway
    kind_of.cache_clear()


def submit(gateway: Gateway, **request: Any) -> Job:
    key = gateway.credentials.create("k")[0]
    return gateway.inference.submit("letters", "fake", request, key=key, background=True).job


def test_it_is_checked_run_and_shown_as_it_says(gateway: Gateway) -> None:
    with pytest.raises(InvalidRequest, match="It is missing"):
        submit(gateway)
    job = submit(gateway, prompt="ab")
    assert job.id.startswith("lett-")
    claimed = gateway.store.claim(job.id, model="fake", owner="w", claim="c1")
    assert claimed is not None
    assert claimed.request == {"prompt": "ab", "case": "any"}
    body = {"type": "delta", "c": "c1", "text": "ab"}
    assert kind_of("letters").chunks(claimed, Event(1, body)) == [{"letters": "ab"}]
    done = {"type": "done", "c": "c1", "usage": {}}
    gateway.store.journals.append([Append(job.id, "c1", 1, [dumps(body), dumps(done)], JobState.DONE)])
    key = gateway.credentials.get(job.key_id)
    assert views.detail(gateway.inference, job.id, key=key)["result"] == {"case": "any", "letters": 2}


def test_it_is_told_when_others_end_it(gateway: Gateway) -> None:
    job = submit(gateway, prompt="ab")
    assert control.cancel(gateway.store, job, reason="client_request") == "cancelled"
    assert Letters.ended == [job.id]

"""A deployment's journal has what its replicas' logs say, once, also if another agent goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.startup import StartupLog
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.jobs.events import Event
from gateway.jobs.record import DEPLOYMENT, Job, JobState
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.codec import loads
from workers.agent.deployment_job import DeploymentJob
from workers.agent.rollout_journal import RolloutJournal
from workers.agent.startup_follower import StartupFollower

REPLICAS = [ReplicaSpec("r1", "fake", "test", "cpu0"), ReplicaSpec("r2", "fake", "test", "cpu1")]


class World:
    """A deployment of two replicas, and what its journal has."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.celery = make_celery(settings)
        self.logs = [StartupLog(client, one.replica_id) for one in REPLICAS]
        self.events: list[Event] = []
        self.claim()

    def claim(self) -> None:
        """Begin to follow, or go on as another agent."""
        request: dict[str, Any] = {"wanted": [], "replaced": [], "expected_s": {}}
        job = Job("deploy-1", JobState.RUNNING, DEPLOYMENT, "fake", "key", request, claim="c", seq=len(self.events))
        self.job = DeploymentJob(job)
        journal = RolloutJournal(self.job, self.events, self.celery, touch=lambda job: None)
        self.follower = StartupFollower(self.client, journal, self.events)

    def copied(self) -> Iterator[tuple[str, str]]:
        """Which replica has said what that is new."""
        self.follower.copy(REPLICAS)
        append = self.job.unconfirmed()
        for text in append.events if append else ():
            body = loads(text)
            self.events.append(Event(len(self.events) + 1, body))
            yield body["replica"], body.get("message") or body.get("end") or body["stage"]
        if append:
            self.job.confirm(append)


@pytest.fixture
def world(redis_client: redis.Redis, settings: Settings) -> World:
    return World(redis_client, settings)


def test_what_replicas_say_is_copied_once(world: World) -> None:
    first, second = world.logs
    first.append(stage="preparation", status="in_progress")
    second.append(level="info", message="here")
    assert list(world.copied()) == [("r1", "preparation"), ("r2", "here")]
    assert list(world.copied()) == []
    world.claim()
    first.append(end="active")
    assert list(world.copied()) == [("r1", "active")]


def test_all_serve_when_the_last_does_also_after_another_agent_has_seen_the_first(world: World) -> None:
    first, second = world.logs
    first.append(end="active")
    list(world.copied())
    assert not world.follower.all_serve(REPLICAS)
    world.claim()
    second.append(end="active")
    list(world.copied())
    assert world.follower.all_serve(REPLICAS)


def test_one_that_can_not_start_fails_them_all_even_when_it_is_gone(world: World) -> None:
    first, second = world.logs
    first.append(end="active")
    second.append(end="failed", failure={"reason": "NO_SPACE", "message": "The disk is full.", "remedy": "More."})
    second.append(end="gone")
    list(world.copied())
    world.claim()
    with pytest.raises(DeploymentFailed, match="The disk is full") as failed:
        world.follower.all_serve(REPLICAS)
    assert failed.value.reason is FailureReason.NO_SPACE
    assert [world.follower.has_ended(one) for one in REPLICAS] == [False, True]

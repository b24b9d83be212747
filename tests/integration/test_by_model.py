"""Sets by model: nothing is missed that an older version has written, and what is gone is forgotten."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import redis

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.registry import Registry, Replica
from gateway.cluster.serving import Serving
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.jobs.recovery import held_by
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.store.scripts import Scripts
from workers.keeper.keeper import Keeper


def replica(name: str, model: str = "m") -> Replica:
    return Replica(f"{name}:1", name, model, "n", "cpu0", "active", pid=1)


def beat_as_before(client: redis.Redis, one: Replica) -> None:
    """As versions without sets by model send a heartbeat."""
    client.sadd(keys.WORKERS, one.incarnation)
    client.set(keys.worker(one.incarnation), dumps(asdict(one)), px=60_000)


def put_as_before(client: redis.Redis, spec: ReplicaSpec) -> None:
    client.sadd(keys.DESIRED_DEVICES, f"{spec.node} {spec.device}")
    client.hset(keys.desired(*spec.address), spec.replica_id, dumps(asdict(spec)))


def names(registry: Registry, model: str) -> list[str]:
    return sorted(one.replica_id for one in registry.replicas(model))


def test_replicas_of_older_versions_are_found_with_and_without_a_keeper(
    redis_client: redis.Redis, keeper: Keeper
) -> None:
    registry = Registry(redis_client)
    registry.heartbeat(replica("new"), lease_s=60)
    beat_as_before(redis_client, replica("old"))
    beat_as_before(redis_client, replica("other", "other"))
    assert names(registry, "m") == ["new", "old"], "nobody has completed the sets, so all are read"
    assert not registry.is_alone("m")
    keeper.round()
    assert redis_client.smembers(keys.workers_of("m")) == {"new:1", "old:1"}
    assert names(registry, "m") == ["new", "old"]
    assert (registry.is_alone("m"), registry.is_alone("other")) == (False, True)


def test_specs_of_older_versions_are_found_with_and_without_a_keeper(redis_client: redis.Redis, keeper: Keeper) -> None:
    desired, new, old = Desired(redis_client), ReplicaSpec("r1", "m", "n", "cpu0"), ReplicaSpec("r 2", "m", "n", "cpu1")
    desired.put(new, ReplicaSpec("r3", "other", "n", "cpu0"))
    put_as_before(redis_client, old)
    assert desired.all("m") == [new, old]
    keeper.round()
    assert desired.all("m") == [new, old]
    assert {one.replica_id for one in desired.all()} == {"r1", "r 2", "r3"}


def test_what_one_asks_of_a_model_reads_nothing_of_the_others(redis_client: redis.Redis, keeper: Keeper) -> None:
    """What is wrong with others does not even show."""
    registry, desired = Registry(redis_client), Desired(redis_client)
    registry.heartbeat(replica("mine"), lease_s=60)
    desired.put(ReplicaSpec("r1", "m", "n", "cpu0"))
    keeper.round()
    redis_client.delete(keys.WORKERS, keys.DESIRED_DEVICES)
    assert names(registry, "m") == ["mine"]
    assert [one.replica_id for one in desired.all("m")] == ["r1"]


def test_who_is_gone_is_forgotten(redis_client: redis.Redis, keeper: Keeper) -> None:
    registry, desired = Registry(redis_client), Desired(redis_client)
    for name in ("dead", "left", "stays"):
        registry.heartbeat(replica(name), lease_s=60)
    specs = [ReplicaSpec(name, "m", "n", "cpu0") for name in ("dropped", "dropped-before", "stays")]
    desired.put(*specs)
    keeper.round()
    redis_client.delete(keys.worker("dead:1"))
    registry.deregister("left:1")
    desired.drop(specs[:1])
    redis_client.hdel(keys.desired("n", "cpu0"), "dropped-before")  # as an older version does
    redis_client.sadd(keys.desired_of("m"), "what is no place of ours", "x")
    assert names(registry, "m") == ["stays"]
    assert desired.all("m") == specs[2:]
    assert redis_client.smembers(keys.workers_of("m")) == {"stays:1"}
    assert redis_client.smembers(keys.desired_of("m")) == {"n cpu0 stays"}
    assert registry.is_alone("m")


def test_a_worker_that_leaves_is_told_of_nothing_more_whatever_else_it_is(redis_client: redis.Redis) -> None:
    registry = Registry(redis_client)
    registry.heartbeat(replica("r"), lease_s=60)
    redis_client.zadd(keys.openings("m"), {"replica.r": 1})
    redis_client.rpush("replica.r:3", "x")
    registry.deregister("agent:1")
    assert redis_client.exists("replica.r:3")
    registry.deregister("r:1")
    assert not redis_client.exists("replica.r:3", keys.openings("m"), keys.worker("r:1"), keys.workers_of("m"))


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


def claimed(store: JobStore, owner: str) -> Job:
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "m", "k", {"messages": []})
    store.create(job, ttl_ms=60_000)
    found = store.claim(job.id, model="m", owner=owner, claim=new_claim_id())
    assert found
    return found


def test_a_worker_finds_its_jobs_without_looking_at_those_of_others(store: JobStore) -> None:
    mine, over = claimed(store, "w"), claimed(store, "w")
    claimed(store, "other")
    store.end(over, JobState.CANCELLED, {}, take_claim=over.claim)
    store.redis.delete(keys.RUNNING)
    assert [job.id for job in held_by(store, "w", itself=True)] == [mine.id]
    assert store.redis.smembers(keys.held("w")) == {mine.id, ""}, "what has ended is forgotten"
    assert store.redis.pttl(keys.held("w")) > 0


def test_the_jobs_of_a_worker_of_an_older_version_are_found_by_whoever_buries_it(store: JobStore) -> None:
    job, other = claimed(store, "old"), claimed(store, "new")
    store.redis.delete(keys.held("old"))
    assert [found.id for found in held_by(store, "old")] == [job.id]
    assert [found.id for found in held_by(store, "new")] == [other.id]
    assert held_by(store, "nobody") == []


def test_a_job_that_another_has_taken_over_is_not_its_own_any_more(store: JobStore) -> None:
    job = claimed(store, "w")
    store.redis.hset(keys.job(job.id), "owner", "other")
    broken = claimed(store, "w")
    store.redis.delete(keys.job(broken.id))
    store.redis.set(keys.job(broken.id), "no record")
    assert held_by(store, "w", itself=True) == []
    assert store.redis.smembers(keys.held("w")) == {""}


def test_a_request_reads_both_at_once_and_forgets_who_is_gone(redis_client: redis.Redis, keeper: Keeper) -> None:
    registry, desired = Registry(redis_client), Desired(redis_client)
    serving = Serving(registry, desired, Scripts(redis_client))
    for name in ("a", "b", "gone"):
        registry.heartbeat(replica(name), lease_s=60)
    desired.put(*(ReplicaSpec(name, "m", "n", "cpu0") for name in ("a", "b c", "dropped")))
    before_keeper = serving.of("m")
    keeper.round()
    for served in (before_keeper, serving.of("m"), serving.all()["m"]):
        assert sorted(one.replica_id for one in served.replicas) == ["a", "b", "gone"]
        assert sorted(one.replica_id for one in served.specs) == ["a", "b c", "dropped"]
    redis_client.delete(keys.worker("gone:1"))
    redis_client.hdel(keys.desired("n", "cpu0"), "dropped")
    redis_client.sadd(keys.desired_of("m"), "nonsense")
    found = serving.of("m")
    assert [one.replica_id for one in found.replicas] == ["a", "b"]
    assert [one.replica_id for one in found.specs] == ["a", "b c"]
    assert redis_client.smembers(keys.workers_of("m")) == {"a:1", "b:1"}
    assert redis_client.smembers(keys.desired_of("m")) == {"n cpu0 a", "n cpu0 b c"}


def test_one_that_can_not_be_read_is_left_out(redis_client: redis.Redis, keeper: Keeper) -> None:
    registry, desired = Registry(redis_client), Desired(redis_client)
    for name in ("a", "b", "c"):
        registry.heartbeat(replica(name), lease_s=60)
    desired.put(ReplicaSpec("a", "m", "n", "cpu0"), ReplicaSpec("b", "m", "n", "cpu1"))
    keeper.round()
    redis_client.delete(keys.worker("b:1"), keys.desired("n", "cpu1"))
    redis_client.lpush(keys.worker("b:1"), "no string")
    redis_client.set(keys.worker("c:1"), "no JSON")
    redis_client.set(keys.desired("n", "cpu1"), "no hash")
    found = Serving(registry, desired, Scripts(redis_client)).of("m")
    assert ([one.replica_id for one in found.replicas], [one.replica_id for one in found.specs]) == (["a"], ["a"])

"""The transport of wake-up messages over a real Redis."""

from __future__ import annotations

import redis
from kombu.entity import Exchange, Queue

from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device, Registry, Replica
from gateway.models.footprint import Footprint
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue, wake
from gateway.queue.names import GENERATE, Priority, model_queue, wake_queue
from gateway.queue.transport import Transport
from gateway.scheduling.lines import Lines, Wish
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import loads
from gateway.store.scripts import Scripts


def test_one_client_sends_all_messages_of_a_connection(settings: Settings, redis_client: redis.Redis) -> None:
    app = make_celery(settings)
    with app.connection_for_write() as connection:
        assert isinstance(connection.transport, Transport)
        channel = connection.default_channel
        first = channel._create_client()
        assert channel._create_client() is first
        # A connection that was lost gets new pools, and with them a new client.
        channel._disconnect_pools()
        assert channel._create_client() is not first
        assert channel._create_client().ping()


def test_a_wake_up_message_lies_in_the_list_of_its_priority(settings: Settings, redis_client: redis.Redis) -> None:
    app = make_celery(settings)
    for _ in range(3):
        enqueue(app, "chatcmpl-1", queue_key="fake", priority=Priority.INTERACTIVE)
    assert redis_client.llen(f"{model_queue('fake')}:{Priority.INTERACTIVE.value}") == 3
    app.close()


def test_a_wake_up_message_is_what_celery_would_send(settings: Settings, redis_client: redis.Redis) -> None:
    app = make_celery(settings)
    queue = model_queue("fake")
    enqueue(app, "chatcmpl-1", queue_key="fake", priority=Priority.INTERACTIVE)
    app.send_task(GENERATE, args=["chatcmpl-1"], queue=queue, priority=Priority.INTERACTIVE.value, ignore_result=True)
    celerys, ours = map(loads, redis_client.lrange(f"{queue}:{Priority.INTERACTIVE.value}", 0, -1))
    for message in (celerys, ours):
        for name in ("id", "root_id", "argsrepr"):
            del message["headers"][name]
        for name in ("correlation_id", "delivery_tag", "reply_to"):
            del message["properties"][name]
    assert ours == celerys
    app.close()


def test_what_needs_no_acknowledgement_leaves_nothing_behind(settings: Settings, redis_client: redis.Redis) -> None:
    app = make_celery(settings)
    for _ in range(3):
        enqueue(app, "chatcmpl-1", queue_key="fake", priority=Priority.INTERACTIVE)
    taken = []
    with app.connection_for_read() as connection:
        queue = Queue(model_queue("fake"), Exchange(model_queue("fake")), no_ack=True)
        with connection.Consumer(queue, on_message=taken.append) as consumer:
            while len(taken) < 3:
                connection.drain_events(timeout=5)
            for message in taken:
                message.ack()
            assert not consumer.channel.qos._dirty
    assert not redis_client.exists("unacked", "unacked_index")
    app.close()


def test_nothing_stays_for_ever_of_a_replica_or_an_agent_that_has_died(
    settings: Settings, redis_client: redis.Redis
) -> None:
    """Whether it could say that it leaves, or not."""
    app, registry, queue = make_celery(settings), Registry(redis_client), wake_queue("r")
    lines = Lines(redis_client, Scripts(redis_client))

    def live() -> None:
        registry.heartbeat(Replica("i", "r", "m", "n", "cpu0", "active", 1), lease_s=60)
        registry.beat_device(Device("d", "n", "cpu0", 1), lease_s=60)
        with app.connection_for_read() as connection:
            connection.Consumer(Queue(queue, Exchange(queue), routing_key=queue)).consume()
        lines.next_jobs("m", Wish(queue, total=1, free=1))
        wake(app, queue)

    def for_ever() -> set[str]:
        return {key for key in redis_client.scan_iter() if redis_client.ttl(key) < 0}

    live()
    Footprints(redis_client).publish("n", "cpu0", {"m": Footprint()})
    assert for_ever() == {keys.WORKERS, keys.DEVICES}
    redis_client.delete(keys.worker("i"), keys.worker("d"))  # their leases are over
    assert (registry.replicas(), registry.devices()) == ([], [])
    assert for_ever() == set()
    live()
    for incarnation in ("i", "d"):
        registry.deregister(incarnation)
    assert set(redis_client.keys()) == {keys.footprints("n", "cpu0")}
    app.close()

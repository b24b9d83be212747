"""The transport of wake-up messages over a real Redis."""

from __future__ import annotations

import redis
from kombu.entity import Exchange, Queue

from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue
from gateway.queue.names import GENERATE, Priority, model_queue
from gateway.queue.transport import Transport
from gateway.settings import Settings
from gateway.store.codec import loads


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
        enqueue(app, "chatcmpl-1", queue_key="fake", priority=Priority.BACKGROUND)
    assert redis_client.llen(f"{model_queue('fake')}:{Priority.BACKGROUND.value}") == 3
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

"""Connections notice that the other end is gone without a word (what the kernel is asked for, on TCP alone), and share
round trips."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.connection import KEEPALIVE, connect, pipeline
from tests.faults.proxy import SwallowingProxy


@pytest.fixture
def over_tcp(settings: Settings, redis_client: redis.Redis) -> Iterator[Settings]:
    with closing(SwallowingProxy(settings.redis_url.removeprefix("unix://"))) as proxy:
        yield replace(settings, redis_url=proxy.url)


def options(client: redis.Redis) -> dict[int, int]:
    connection = client.connection_pool.get_connection()
    found: socket.socket = connection._sock
    assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    read = {name: found.getsockopt(socket.IPPROTO_TCP, name) for name in KEEPALIVE}
    connection.disconnect()
    return read


def test_the_kernel_finds_a_dead_peer_in_seconds(over_tcp: Settings) -> None:
    idle, interval, count = (KEEPALIVE[getattr(socket, f"TCP_KEEP{name}")] for name in ("IDLE", "INTVL", "CNT"))
    assert idle + interval * count < 30
    with closing(connect(over_tcp)) as client:
        assert options(client) == KEEPALIVE


def test_so_it_does_for_those_that_wait_for_messages(over_tcp: Settings) -> None:
    with make_celery(over_tcp).connection_for_read() as connection:
        channel = connection.default_channel
        assert options(channel.client) == KEEPALIVE
        for client in (channel._create_client(), channel._create_client(asynchronous=True)):
            assert options(client) == KEEPALIVE


def test_a_unix_socket_needs_none_of_it(settings: Settings, redis_client: redis.Redis) -> None:
    with closing(connect(settings)) as client:
        assert client.ping()
    with make_celery(settings).connection_for_read() as connection:
        assert connection.default_channel.client.ping()


@pytest.fixture
def shared(settings: Settings, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    with closing(connect(settings, joined=True)) as client:
        yield client


def test_threads_that_share_round_trips_get_each_its_own_replies(shared: redis.Redis) -> None:
    def count(thread: int) -> list[object]:
        return [pipeline(shared, [("INCR", f"n{thread}"), ("GET", f"n{thread}")]) for _ in range(50)]

    with ThreadPoolExecutor(16) as threads:
        counts = list(threads.map(count, range(16)))
    assert counts == [[[n, str(n)] for n in range(1, 51)]] * 16


def test_an_error_reply_concerns_no_other_thread(shared: redis.Redis) -> None:
    shared.set("text", "x")

    def ask(thread: int) -> object:
        try:
            return pipeline(shared, [("INCR", "text" if thread % 2 else f"n{thread}"), ("PING",)])
        except redis.exceptions.ResponseError as error:
            return str(error)[:15]

    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(ask, range(16)))
    assert replies[::2] == [[1, "PONG"]] * 8
    assert set(replies[1::2]) == {"value is not an"}


def test_a_connection_that_redis_has_closed_is_made_anew(shared: redis.Redis, redis_client: redis.Redis) -> None:
    for _ in range(3):
        assert pipeline(shared, [("PING",)]) == ["PONG"]
        redis_client.client_kill_filter(_type="normal", skipme=True)

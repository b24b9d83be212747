"""Connections notice that the other end is gone without a word: what the kernel is asked for, on TCP alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.connection import KEEPALIVE, connect
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

"""Connections to Redis. Scripts are idempotent by claim id and seq, so callers may retry them."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any, TypeVar

import hiredis
import kombu.exceptions
import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from gateway.settings import Settings
from gateway.store.joined import Command, Joined
from gateway.store.redis_url import Sentinels, sentinels, url_options

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a connection may take to come about, in seconds.
CONNECT_S = 2.0
#: Idle connections of a client that stay open: those of its next few calls.
KEPT_OPEN = 2
#: Pause between two tries of a call that waits until Redis answers.
RETRY_S = 0.5
#: Redis, or the broker on it, can't do it now: it is away, full, read only, loading, or failing over. The answer to all
#: of these is to wait and try again.
NOT_NOW = (redis.exceptions.RedisError, kombu.exceptions.OperationalError)
#: Error replies that do not depend on the state of the server: the same command always gets them.
_LASTING = ("ERR", "WRONGTYPE", "NOPERM", "CROSSSLOT")
#: TCP options (tcp(7)) that detect a dead peer within 20 s, on an idle connection (a probe after 10 s, three more, 3 s
#: apart) and on one whose data is not acknowledged (in ms).
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000))
    if hasattr(socket, name)
}


class IdlePool(redis.BlockingConnectionPool):
    """Connections that are closed when nobody has used them for `idle_s` (0: never), but for a few; who gets none waits
    for one.

    Who was used last is used next, so that what a burst has needed becomes idle.
    """

    def __init__(self, *, idle_s: float, **options: Any) -> None:
        self._idle_s = idle_s
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def reset(self) -> None:
        """Begin anew, as after a fork."""
        self._is_timed = False
        super().reset()  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        connection.used_at = time.monotonic()
        super().release(connection)  # type: ignore[no-untyped-call]
        if self._idle_s and not self._is_timed:
            self._watch()

    def _watch(self) -> None:
        self._is_timed = True
        timer = threading.Timer(self._idle_s, self._close_idle)
        timer.daemon = True
        timer.name = "redis-idle"
        timer.start()

    def _close_idle(self) -> None:
        """Close those that are idle. They stay in the pool, and connect again when they are needed."""
        taken: list[Any] = []
        before = time.monotonic() - self._idle_s
        try:
            with suppress(Empty):
                while True:  # the one that was used last comes first
                    taken.append(self.pool.get_nowait())
            there = [connection for connection in taken if connection and connection.is_connected]
            idle = [one for one in there[KEPT_OPEN:] if one.used_at <= before]
            for connection in idle:
                connection.disconnect()
        finally:  # whatever is wrong with one, none is lost to the pool
            for connection in reversed(taken):
                self.pool.put_nowait(connection)
            self._is_timed = False
        if len(there) - len(idle) > KEPT_OPEN:
            self._watch()


class MasterPool(SentinelConnectionPool, IdlePool):
    """Those to whichever server the sentinels name as the master."""


class JoinedClient(redis.Redis):
    """A client whose pipelines share round trips."""

    def __init__(self, connection_pool: redis.ConnectionPool) -> None:
        super().__init__(connection_pool=connection_pool)
        self.joined = Joined(partial(_round_trip, self))


def connect(
    settings: Settings,
    *,
    retries: int = 0,
    max_connections: int = 64,
    timeout_s: float = 10.0,
    joined: bool = False,
) -> redis.Redis:
    """A client that decodes to `str`. `timeout_s` bounds the wait for a reply, and that for a free connection.
    `joined`: its pipelines share round trips, see `gateway/store/joined.py`.

    `retries` > 0 is for readers and for idempotent scripts of short-lived callers; a write that is not idempotent
    must never be retried by the client (it can be applied more than once when a reply is lost).

    Raises:
        InvalidSetting: `redis_url` is not a URL of Redis.
    """
    url = settings.effective_redis_url
    backoff = ExponentialBackoff(cap=0.5, base=0.02) if retries else NoBackoff()
    options: dict[str, Any] = {
        "decode_responses": True,
        # Invalid UTF-8 damages one value. Without this, no reply that contains it could be read at all.
        "encoding_errors": "replace",
        "protocol": 3,
        "retry": Retry(backoff, retries),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_S,
        "max_connections": max_connections,
        "timeout": timeout_s,
        "idle_s": settings.idle_s,
        **({} if url.startswith("unix:") else {"socket_keepalive_options": KEEPALIVE}),
    }
    if watched := sentinels(url):
        pool: IdlePool = _pool_of_master(watched, options)
    else:
        url_options(url)
        pool = IdlePool.from_url(url, **options)
    return JoinedClient(pool) if joined else redis.Redis(connection_pool=pool)


def pipeline(client: redis.Redis, commands: Sequence[Command], *, raise_on_error: bool = True) -> list[Any]:
    """Run many commands in one round trip, at a third of the processor time of a `Pipeline`, for the hot path.

    Replies are as Redis gives them: a hash is a `dict`, but a number may be a `str`.

    Raises:
        redis.exceptions.ResponseError: one of them failed; the others have run all the same. Without
            `raise_on_error` the error is in the place of its reply.
    """
    if not commands:
        return []
    replies = client.joined(commands) if isinstance(client, JoinedClient) else _round_trip(client, commands)
    if raise_on_error and (errors := [reply for reply in replies if isinstance(reply, redis.exceptions.ResponseError)]):
        raise errors[0]
    return replies


def retry_until_redis_answers(call: Callable[[], T], *, what: str, wait: Callable[[float], None]) -> T:
    """Call until Redis answers. Returns what `call` returns.

    `what` names the caller in the log. `wait` is called with the pause in seconds; it may raise to give up.

    Raises: what `wait` raises, and what `call` raises if waiting does not help.
    """
    while True:
        try:
            return call()
        except NOT_NOW as error:
            if is_lasting(error):
                raise
            log.warning("%s waits for Redis: %s", what, error)
        wait(RETRY_S)


def listen(
    client: redis.Redis, channel: str, *, on_subscribed: Callable[[], None], silence_s: float | None = None
) -> Iterator[bytes]:
    """Yields what is published to a channel, for ever, at two thirds of the processor time of a `PubSub`.

    Raises:
        redis.exceptions.ConnectionError: Redis is gone; what is published until the next call is missed.
        redis.exceptions.TimeoutError: nothing was published for `silence_s`.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command("SUBSCRIBE", channel)
        while True:
            kind, _, data = connection.read_response(disable_decoding=True, push_request=True, timeout=silence_s)
            if kind == b"message":
                yield data
            elif kind == b"subscribe":
                on_subscribed()
    finally:
        connection.disconnect()  # it is still subscribed
        pool.release(connection)


def run_id(client: redis.Redis) -> str:
    """The id of the Redis process, which changes with a restart."""
    (info,) = pipeline(client, [("INFO", "server")])
    return str(info).partition("run_id:")[2].split(maxsplit=1)[0]


def is_lasting(error: Exception) -> bool:
    """Whether an error is the command's own, so that waiting does not help."""
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
    return isinstance(error, redis.exceptions.ResponseError) and code in _LASTING


def _pool_of_master(watched: Sentinels, options: Mapping[str, Any]) -> MasterPool:
    asked = {"socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S, **watched.own_options}
    manager = Sentinel(watched.hosts, sentinel_kwargs=asked)
    return MasterPool(  # type: ignore[no-untyped-call]
        watched.master_name, manager, ssl=bool(watched.tls), **{**options, **watched.options}
    )


def _round_trip(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """The replies, errors among them."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        connection.send_packed_command([b"".join(packed)])
        return [_reply(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # it may hold unread replies
        raise
    finally:
        pool.release(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error

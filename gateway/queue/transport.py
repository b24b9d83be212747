"""kombu's Redis transport with less work per message: one Redis client per channel instead of one per message, and no
acknowledgement where none is needed. A request's way through the queue takes a fifth less processor time.

Nothing of ours stays for ever: a wake-up message that nobody takes expires, and our queues have no bindings in Redis.
It drops items that are not valid messages, and from our own queues all that are not wake-up messages: kombu and Celery
would end the worker on some of them.
"""

from __future__ import annotations

import logging
import time
from queue import Empty
from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps, loads

from gateway.queue.wake_ups import holds_wake_ups, is_command, is_message, is_wake_up
from gateway.store.connection import pipeline

log = logging.getLogger(__name__)

#: Celery's exchange for commands to workers.
CONTROL = "celery.pidbox"
#: A queue of wake-up messages goes when none was sent for so long: the records say what waits.
UNTAKEN_MS = 3_600_000
#: Pause before Redis is asked again for a message when it has answered with an error.
REFUSED_S = 0.2


class QoS(kombu_redis.QoS):
    """Does not restore messages that were never acknowledged: the keeper finds their jobs by the records."""

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Do nothing. kombu's would write to Redis now and then, which fails while Redis is read only."""


class Channel(kombu_redis.Channel):
    """Keeps one client, which threads may share, for as long as the channel has the same connection pool."""

    QoS = QoS
    _sender: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu makes it once per channel, to listen
            client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
            client.set_response_callback("BRPOP", self._sifted)
            return client
        if self._sender is None or self._sender.connection_pool is not self.pool:
            self._sender = super()._create_client()  # type: ignore[no-untyped-call]
        return self._sender

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        if not holds_wake_ups(queue):
            super()._put(queue, message, **kwargs)  # type: ignore[no-untyped-call]
            return
        step = self._get_message_priority(message, reverse=False)  # type: ignore[no-untyped-call]
        name = self._q_for_pri(queue, step)  # type: ignore[no-untyped-call]
        with self.conn_or_acquire() as client:
            pipeline(client, [("LPUSH", name, dumps(message)), ("PEXPIRE", name, UNTAKEN_MS)])

    def _queue_bind(self, exchange: str, routing_key: str, pattern: Any, queue: str) -> None:
        """Remember who is to get what is sent to an exchange. Wake-up messages are sent to their queue itself."""
        if not holds_wake_ups(queue):
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message that waits for it; for any other, kombu would keep the tag for ever."""
        if delivery_tag in self.qos._delivered:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]

    def _sifted(self, reply: list[bytes] | None, **_: Any) -> list[bytes] | None:
        """The reply to BRPOP, or None, as after a time-out, for an item that is dropped."""
        if not reply:
            return None
        queue, item = reply[0].decode().rsplit(self.sep, 1)[0], reply[1]
        if is_wake_up(item) if holds_wake_ups(queue) else _is_json_of_message(item):
            return reply
        log.warning("queue %s: dropped an item that is no wake-up message, %d bytes: %r", queue, len(item), item[:80])
        return None

    def _brpop_read(self, **options: Any) -> Any:
        """Take a message. An error reply (read only, no replicas, a fail-over) counts as none, and is retried soon."""
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            log.warning("no messages are taken: %s", error)
            time.sleep(REFUSED_S)
            raise Empty from error

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)  # type: ignore[no-untyped-call]
        except RecursionError as error:
            log.warning("dropped a control message whose JSON is nested too deep")
            raise Empty from error

    def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
        if is_message(message) and (exchange != CONTROL or is_command(message)):
            return super()._deliver_fanout_message(message, exchange)  # type: ignore[no-untyped-call]
        log.warning("exchange %s: dropped an item that is no message for it: %.80r", exchange, message)
        return False


def _is_json_of_message(item: bytes) -> bool:
    """Whether kombu's own reader, which also knows values that JSON lacks, makes a message of it."""
    try:
        return is_message(loads(item))
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


class SentinelChannel(Channel, kombu_redis.SentinelChannel):
    """The same to the master that sentinels name."""


class Transport(kombu_redis.Transport):
    """The transport for URLs of one server, once `register` was called."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):
    """The same for URLs of sentinels."""

    Channel = SentinelChannel


def register() -> None:
    """Use these transports instead of kombu's own in this process."""
    for name in ("redis", "rediss", "redis+socket"):
        TRANSPORT_ALIASES[name] = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{SentinelTransport.__name__}"

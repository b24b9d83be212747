"""The load generator whose clients come by themselves: `python -m tests.bench.open_load`, a JSON line in, one out.

It ends by itself, whatever the server does: at `stop_s` what is still open is left as it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any

from tests.bench.load import StreamingRequest, request_bytes
from tests.bench.visits import Client, Refusal, Visit

HOST = "127.0.0.1"
#: Who is refused without a time comes back after so long.
RETRY_S = 1.0
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)


class Refused(Exception):
    """The answer was no stream."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.retry_after_s = status, retry_after_s


class Exchange(StreamingRequest):
    """One POST that is answered by a stream, or refused."""

    #: What has come of the answer's head; None: the stream has begun.
    _head: bytes | None = b""
    #: The stream has told of an error.
    failed = False

    @property
    def admitted(self) -> bool:
        """The stream has begun."""
        return self._head is None

    def data_received(self, data: bytes) -> None:
        """Read the head, then the stream."""
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if (status := int(head[9:12])) != 200:
                self._refuse(status, head)
                return
            self._head = None
        self.failed = self.failed or b"event: error" in data
        super().data_received(data)

    def _refuse(self, status: int, head: bytes) -> None:
        told = _RETRY_AFTER.search(head)
        if not self._done.done():
            self._done.set_exception(Refused(status, float(told[1]) if told else None))
        self._transport.close()


class Run:
    """One load on one server; times count from when it is made."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._began = time.perf_counter()
        self.visits: list[Visit] = []

    def now_s(self) -> float:
        """Seconds from the start."""
        return time.perf_counter() - self._began

    async def arrive(self, client: Client, visit: Visit) -> None:
        """One client, at its time; it comes back for as long as it is refused, if it obeys."""
        while (again_s := await self._attempt(client, visit)) is not None and client.obeys:
            visit.due_s = self.now_s() + again_s

    async def follow_each_other(self, clients: Iterator[Client], hold_s: float) -> None:
        """A client as soon as the one before it has ended (a closed loop), until `hold_s`, over one connection, as
        those that SDKs keep.
        """
        kept: list[Any] = []
        while self.now_s() < hold_s:
            client = next(clients)
            visit = Visit(self.now_s())
            self.visits.append(visit)
            await self._attempt(client, visit, kept)
        for transport in kept:
            transport.close()

    async def _attempt(self, client: Client, visit: Visit, kept: list[Any] | None = None) -> float | None:
        """One try, when it is due. Returns after how long to come back, if it was refused. With `kept` it takes an open
        connection there, if there is one, and puts its own there in the end.
        """
        await asyncio.sleep(visit.due_s - self.now_s())
        visit.tries += 1
        sent_s = self.now_s()
        visit.late_s = max(visit.late_s, sent_s - visit.due_s)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        exchange = Exchange(request_bytes(HOST, self._path, _bearer(client.key), client.body), done)
        exchange.keeps = kept is not None
        try:
            async with self._connection(exchange, kept):
                await done
            visit.ended_s = self.now_s()
            visit.broken = "the stream has told of an error" if exchange.failed else ""
        except Refused as refused:
            visit.refusals.append(Refusal(refused.status, self.now_s() - sent_s, refused.retry_after_s))
            return RETRY_S if refused.retry_after_s is None else refused.retry_after_s
        except (OSError, RuntimeError) as error:
            visit.broken = str(error)[:200]
        finally:
            visit.admitted = exchange.admitted
            visit.tokens = exchange.sample.tokens
            if exchange.sample.arrivals:
                visit.first_s = exchange.sample.arrivals[0] - self._began
        return None

    @contextlib.asynccontextmanager
    async def _connection(self, exchange: Exchange, kept: list[Any] | None) -> AsyncIterator[None]:
        """A connection that sends the request; it is closed, unless all went well and it is to be kept."""
        transport = kept.pop() if kept else None
        if transport is None or transport.is_closing():
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: exchange, HOST, self._port)
        else:
            transport.set_protocol(exchange)
            exchange.connection_made(transport)
        try:
            yield
        except BaseException:
            transport.close()
            raise
        if kept is None:
            transport.close()
        else:
            kept.append(transport)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def run(
    *, port: int, path: str, clients: list[dict[str, Any]], stop_s: float, hold: int = 0, hold_s: float = 0.0
) -> dict[str, Any]:
    """All clients at their times, and their visits in the same order; or, with `hold`, so many at once, one behind the
    other. At most until `stop_s`.
    """
    parsed = [Client(**client) for client in clients]
    load = Run(port, path)
    if hold:
        endless = itertools.cycle(parsed)
        work = [load.follow_each_other(endless, hold_s) for _ in range(hold)]
    else:
        load.visits = [Visit(client.at_s) for client in parsed]
        work = [load.arrive(client, visit) for client, visit in zip(parsed, load.visits, strict=True)]
    tasks = [asyncio.ensure_future(each) for each in work]
    _, open_tasks = await asyncio.wait(tasks, timeout=stop_s)
    for task in open_tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for visit in load.visits:
        visit.until_s = load.now_s()
    return {"visits": [asdict(visit) for visit in load.visits]}


def main() -> None:
    """Serve runs until stdin closes."""
    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        result = asyncio.run(run(**json.loads(line)))
        after = resource.getrusage(resource.RUSAGE_SELF)
        result["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

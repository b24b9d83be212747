"""Faults of clients: they leave, read slowly, come again a hundred times, forge cursors, and come all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import httpx

from tests.faults.matrix.load import Client, Plain, RestStream
from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World
from tests.stack import eventually

#: Cursors that no event of the job has.
FORGED = (
    *("0-x", "1-00000000", "7-deadbeef", "999999999", "999999999999999-abc", "3-", "3", "-1-x", "x", "1e9", "٣-x"),
    *("1-'; DROP", "18446744073709551616-a", "0", "00"),
)


class SlowStream(RestStream):
    """Takes its time over each line."""

    def _follow(self, lines: Iterator[str]) -> None:
        super()._follow(_slowly(lines))


def _slowly(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number % 10 == 0:
            time.sleep(0.05)
        yield line


class RestlessStream(RestStream):
    """Goes and comes back after every few lines, a hundred times."""

    visits = 0

    def _follow(self, lines: Iterator[str]) -> None:
        self.visits += 1
        few = 4 if self.visits < 100 else 1_000_000
        super()._follow(line for number, line in enumerate(lines) if number < few or not self._is_enough(number, few))

    def _is_enough(self, number: int, few: int) -> bool:
        if number >= few:
            raise _Enough
        return False

    def _note(self, trouble: str) -> None:
        if trouble != "_Enough":
            super()._note(trouble)


class _Enough(Exception):
    """This visit is over."""


def slow(load: Load) -> None:
    """Ten that read slowly."""
    load.add(*(SlowStream(load.world, load.key, tokens=400) for _ in range(10)))


def restless(load: Load) -> None:
    """Four that come again and again."""
    load.add(*(RestlessStream(load.world, load.key, tokens=600) for _ in range(4)))


def leave(world: World, load: Load) -> Sequence[str] | None:
    """Twenty go for good in the middle of their answers. Their jobs are cancelled, and give back what they had."""
    leavers = [RestStream(world, load.key, tokens=3000) for _ in range(20)]
    for client in leavers:
        client.start()
    eventually(lambda: sum(client.begun for client in leavers) >= 10, "they run", 60)
    for client in leavers:
        client.leave()
    jobs = [client.job_id for client in leavers if client.job_id]
    eventually(
        lambda: all(job and job.state.ended for job in world.stack.store.read_many(jobs)), "their jobs have ended", 60
    )
    states = {job.state.value for job in world.stack.store.read_many(jobs) if job}
    assert states == {"cancelled"}, states
    return None


def forge(world: World, load: Load) -> Sequence[str] | None:
    """Whatever the cursor says, nobody gets a wrong text: the answer, what is left of it, or a refusal."""
    honest = RestStream(world, load.key, tokens=40)
    honest.start().thread.join(60)
    assert honest.ended, "an answer to ask for"
    answered = 0
    with httpx.Client(base_url=world.stack.url, headers={"Authorization": f"Bearer {load.key}"}, timeout=30) as http:
        for cursor in FORGED:
            headers = {"Last-Event-ID": cursor.encode()}
            response = http.get(f"/jobs/{honest.job_id}/events", headers=headers)
            assert response.status_code in (200, 400, 422), (cursor, response.text)
            if response.status_code == 200:
                again = RestStream(world, load.key, tokens=40)
                again.job_id = honest.job_id
                again._follow(iter(response.text.splitlines()))
                assert honest.oracle(0).endswith(again.texts[0]), cursor
                answered += 1
    assert answered, "some cursor was answered"
    return None


class Hasty(Plain):
    """Gives up when it is refused."""

    refused = False

    def _refused(self, response: httpx.Response) -> None:
        self.refused = response.status_code == 429
        if not self.refused:
            super()._refused(response)
        self.ended = self.ended or self.refused


def overload(world: World, load: Load) -> Sequence[str] | None:
    """Ten times what fits, all at once. Some are refused, which is an answer; all others get theirs."""
    crowd: list[Client] = [Hasty(world, load.key, tokens=20) for _ in range(400)]
    gate = threading.BoundedSemaphore(100)
    for client in crowd:
        gate.acquire()
        client.start()
        threading.Thread(target=_open_after, args=(client, gate), daemon=True).start()
    for client in crowd:
        client.thread.join(90)
    accepted = [client for client in crowd if not (isinstance(client, Hasty) and client.refused)]
    load.clients += accepted
    assert len(accepted) < len(crowd), "nobody was refused"
    return None


def _open_after(client: Client, gate: threading.BoundedSemaphore) -> None:
    client.thread.join()
    gate.release()

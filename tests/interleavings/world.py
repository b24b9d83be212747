"""A small Headrace in one thread: two workers, two keepers, a web process with clients, and whatever goes wrong.

Each operation may have a fault: at the n-th command that it sends, see `wire.Plan`.
"""

from __future__ import annotations

import logging
from typing import Any

from gateway.errors import HeadraceError
from tests.interleavings.backstage import Backstage
from tests.interleavings.client import Client
from tests.interleavings.processes import MODELS, KeeperProcess, Process, WebProcess
from tests.interleavings.replica import ReplicaProcess
from tests.interleavings.stage import KEYS, SLICE_S, Fault
from tests.interleavings.wire import WIRE

log = logging.getLogger(__name__)

#: How often a hub refreshes attendance.
ATTEND_S = 2.0


class World(Backstage):
    """What clients do, how time passes, and what goes wrong."""

    # -- clients

    def submit(self, kind: str, n: int = 1, max_tokens: int = 4, number: int = 0, fault: Fault | None = None) -> None:
        """Ask for an answer: `chat` is waited for, `background` and `idempotent` run by themselves."""
        request = {"messages": [{"role": "user", "content": "x"}], "max_tokens": max_tokens, "n": n}
        background, key = kind == "background", f"again{number}" if kind == "idempotent" else None

        def ask() -> Any:
            try:
                return self.web.inference.submit(
                    "chat", MODELS[0], request, key=KEYS[number % 2], background=background, idempotency_key=key
                )
            except HeadraceError as error:
                log.info("refused: %r", error)
                return None

        run_id, began = WIRE.run_id, self.now_s
        submitted = self.act(self.web, f"request {len(self.jobs)} {len(self._acting)}", ask, fault)
        if submitted is None:
            return
        job_id = submitted.job.id
        facts = self.facts[job_id]
        facts.accepted = True
        if run_id == WIRE.run_id:  # else it may be gone before the client was told
            facts.may_be_gone = False
        if self._web_was_away_at >= began:  # it could not yet say that the client is there
            facts.may_be_cancelled = True
        self.jobs.append(job_id)
        if submitted.watcher is not None:
            self.clients.append(Client(job_id, submitted.watcher))

    def cancel(self, number: int, fault: Fault | None = None) -> None:
        """A client cancels a job."""
        if job_id := self._job(number):
            self.facts[job_id].may_be_cancelled = True

            def ask() -> None:
                try:
                    self.web.inference.cancel(job_id, key=KEYS[0])
                except HeadraceError as error:
                    log.info("not cancelled: %r", error)

            self.act(self.web, f"cancel {len(self._acting)}", ask, fault)

    def leave(self, number: int, fault: Fault | None = None) -> None:
        """A client closes its connection."""
        if self.clients:
            client = self.clients.pop(number % len(self.clients))
            self.facts[client.job_id].may_be_cancelled = True
            self.act(self.web, f"leave {len(self._acting)}", client.watcher.close, fault)

    def reconnect(self, number: int, fault: Fault | None = None) -> None:
        """A client's connection breaks, and it comes back with its cursor."""
        if self.clients:
            self._connect_again(self.clients[number % len(self.clients)], fault)

    def read(self, number: int, fault: Fault | None = None) -> None:
        """A client reads what there is."""
        if self.clients:
            client = self.clients[number % len(self.clients)]
            self.act(self.web, f"client {number % len(self.clients)}", client.read, fault)

    def _connect_again(self, client: Client, fault: Fault | None = None) -> None:
        old = client.watcher
        if old.ended:
            return

        def connect() -> None:
            client.watcher = self.web.hub.watch(client.job_id, after=old.seq, claim=old.claim)
            if old._leave == self.web.hub.leave:  # the hub that still lives
                old.close()

        self.act(self.web, "connect", connect, fault)

    # -- publications

    def deliver(self, number: int = 0) -> None:
        """All publications arrive."""
        self._collect()
        while self.web.mail and not self.web.frozen:
            self.web.hub.deliver(self.web.mail.popleft())

    def lose(self, number: int = 0) -> None:
        """The hub's connection breaks, and what is on its way is lost."""
        self._collect()
        self.web.mail.clear()
        self.web.hub.lose()
        self.web.hub.subscribe()

    def double(self, number: int = 0) -> None:
        """The oldest publication on its way arrives, and will arrive again."""
        self._collect()
        if self.web.mail and not self.web.frozen:
            self.web.hub.deliver(self.web.mail[0])

    def _collect(self) -> None:
        """What was published up to now, if the hub hears it."""
        mail = self.server.published(self.web.hub.id)
        reached = not WIRE.down and self.web.name not in WIRE.cut
        if reached:
            self.web.mail.extend(mail)
        if not reached:
            self.web.mail.clear()
            self.web.hub.lose()
        elif self.web.deaf:
            self.web.hub.subscribe()
        self.web.deaf = not reached

    # -- time

    def elapse(self, seconds: float) -> None:
        """Time passes, and all that lives does what it does every second; the keepers first."""
        while seconds > 0:
            self.server.pass_time(min(seconds, SLICE_S))
            seconds -= SLICE_S
            self._all_go_on()

    def _all_go_on(self) -> None:
        self._seconds += 1
        for worker in self.workers:
            if worker.frozen:
                for job_id in worker.remembers() - self.server.records():
                    self.facts[job_id].may_expire = True
        self.round(self._seconds)  # by turns
        for number in range(2):
            self.take(number)
            self.tend(number)
        self._web_goes_on()

    def _web_goes_on(self) -> None:
        if self.web.frozen or self.web.name in WIRE.cut:
            self._web_was_away_at = self.now_s
            for client in self.clients:
                self.facts[client.job_id].may_be_cancelled = True
        if self.web.frozen:
            return
        self.deliver()
        if self.now_s >= self._next_attend_s:
            self._next_attend_s = self.now_s + ATTEND_S
            self.act(self.web, "attend", self.web.hub.attend)
        self.web.hub.tick()
        for number, client in enumerate(self.clients):
            if client.watcher._leave != self.web.hub.leave:
                self._connect_again(client)
            self.read(number)

    # -- what goes wrong

    def kill(self, process: Process, *, buried: bool = False) -> None:
        """A process is killed, and another takes its place."""
        process.dead = True
        WIRE.cut.discard(process.name)
        if isinstance(process, ReplicaProcess):
            self._kill_worker(process, buried=buried)
        elif isinstance(process, KeeperProcess):
            self.keepers[self.keepers.index(process)] = KeeperProcess(
                process.name, self.around, self.server.clock.monotonic
            )
        elif isinstance(process, WebProcess):
            self.web = WebProcess(process.name, self.around)
            for client in self.clients:
                self._connect_again(client)

    def _kill_worker(self, worker: ReplicaProcess, *, buried: bool) -> None:
        number = self.workers.index(worker)
        for job_id in worker.remembers():
            self.facts[job_id].losses += 1
            if job_id not in self.server.records():
                self.facts[job_id].may_be_gone = True
        self.workers[number] = successor = self._worker(number)
        if buried:
            self.act(successor, "agent", lambda: successor.replica.registry.deregister(worker.incarnation))

    def freeze(self, number: int) -> None:
        """A process stops, or goes on."""
        process = self.processes[number % 5]
        if not process.busy:
            process.frozen = not process.frozen

    def cut(self, number: int) -> None:
        """A process does not reach Redis, or does so again."""
        name = self.processes[number % 5].name
        WIRE.cut ^= {name}

    def away(self, number: int) -> None:
        """Redis is away for a while."""
        WIRE.down = True
        self._all_go_on()
        self.server.pass_time((0.5, 2.0, 10.0)[number % 3])
        self._all_go_on()
        WIRE.down = False

    def rewind(self, number: int) -> None:
        """Redis comes back from a power cut."""
        before = self.server.records()
        self.server.rewind(number)
        held = {job_id for worker in self.workers for job_id in worker.remembers()}
        for job_id in before - self.server.records() - held:
            self.facts[job_id].may_be_gone = True
        self.lose()

    def forget_scripts(self, number: int = 0) -> None:
        """Redis forgets all scripts."""
        self.server.forget_scripts()

    def refuse_writes(self, number: int) -> None:
        """Redis has no room left, or no replica, or takes writes again."""
        self.server.refuse_writes(("", "memory", "replicas")[number % 3])

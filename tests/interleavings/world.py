"""A small Headrace in one thread: two workers, two keepers, a web process with clients, and whatever goes wrong.

Each operation may have a fault: at the n-th command that it sends, see `wire.Plan`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway import keys
from gateway.compaction import compact_ended
from gateway.credentials import KeyRecord
from gateway.desired import Desired
from gateway.errors import HeadraceError
from gateway.queues import lists, queue_of
from gateway.redis import NOT_NOW
from tests.interleavings.clock import Secrets
from tests.interleavings.processes import (
    MODELS,
    Client,
    KeeperProcess,
    Process,
    ReplicaProcess,
    Surroundings,
    WebProcess,
    replica,
)
from tests.interleavings.server import Server
from tests.interleavings.wire import WIRE, Died, Plan

log = logging.getLogger(__name__)

KEY = KeyRecord("key", "key", "hr-", ("admin",), 0)
#: The lists in which hints wait.
QUEUES = [name for model in MODELS for name in lists(queue_of(model))]
#: How long a slice of time is, at most.
SLICE_S = 1.0
#: How often a hub refreshes attendance.
ATTEND_S = 2.0


@dataclass(frozen=True)
class Fault:
    """At which command of an operation what happens; `meanwhile`: the name of an operation, and its argument."""

    kind: str
    at: int
    meanwhile: str = ""
    number: int = 0


@dataclass
class Facts:
    """What was done to a job, and so what may have become of it."""

    id: str
    #: A client was told that it is there.
    accepted: bool = False
    #: A client has cancelled it, or left it, or might have.
    may_be_cancelled: bool = False
    #: The engine has refused it.
    may_be_refused: bool = False
    #: Engines that died while they ran it, and workers.
    crashes: int = 0
    losses: int = 0
    #: A power cut has taken it, and nobody who knows of it is left.
    may_be_gone: bool = False


@dataclass
class World:
    """All processes, and what is known of all jobs."""

    around: Surroundings
    server: Server
    numbers: Secrets
    #: What was raised though nobody expected it.
    complaints: list[str]
    facts: dict[str, Facts] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    #: Jobs in the order in which they were accepted.
    jobs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._acting: list[Process] = []
        self._next_attend_s = 0.0
        WIRE.heal()
        self.complaints.clear()
        self.server.empty()
        self.numbers.restart()
        self.around.connect_queues()
        self.workers = [self._worker(0), self._worker(1)]
        self.keepers = [KeeperProcess(f"keeper{i}", self.around, self.server.clock.monotonic) for i in range(2)]
        self.web = WebProcess("web", self.around)
        store = self.web.store
        if self.server.forgetful:
            store.scripts.load()
            self.server.forgetful = False
        Desired(store.redis).want(*map(replica, MODELS))
        store.redis.hset(keys.API_KEYS, KEY.id, KEY.id)
        store.redis.set(keys.INSTALLATION, "installation")
        self.elapse(SLICE_S)

    @property
    def processes(self) -> list[Process]:
        """All five."""
        return [*self.workers, *self.keepers, self.web]

    @property
    def now_s(self) -> float:
        """The time."""
        return self.server.clock.now_s

    def check(self) -> None:
        """What must hold at any moment. Raises: AssertionError."""
        broken = [line for line in self.server.check() if not self._is_half_made(line)] + self.complaints
        assert not broken, "; ".join(broken)

    def _is_half_made(self, line: str) -> bool:
        """Whether a job is in no index whose maker has got an error: the keeper's walk over all records finds it."""
        job_id, _, what = line.partition(" ")
        return what.endswith("in no index") and not self.facts.get(job_id, Facts(job_id)).accepted

    # -- doing something in a process, with what goes wrong meanwhile

    def act(self, process: Process, thread: str, operation: Callable[[], Any], fault: Fault | None = None) -> Any:
        """Do something in a thread of a process, unless the thread has something to do. None if it has failed."""
        if process.dead or process.frozen or thread in process.busy:
            return None
        outer, WIRE.acting = WIRE.acting, process.name
        plan = self._plan(fault) if fault else None
        process.busy.add(thread)
        self._acting.append(process)
        if plan:
            WIRE.plan = plan
        try:
            return operation()
        except NOT_NOW as error:
            log.info("%s: %s failed: %r", process.name, thread, error)
        except Died:
            self.kill(process)
        finally:
            process.busy.discard(thread)
            self._acting.pop()
            WIRE.acting = outer
            if WIRE.plan is plan:
                WIRE.plan = None
        return None

    def _plan(self, fault: Fault) -> Plan:
        if fault.kind != "meanwhile":
            return Plan(fault.at, fault.kind)
        return Plan(fault.at, "meanwhile", action=lambda: self._meanwhile(fault))

    def _meanwhile(self, fault: Fault) -> None:
        acting = self._acting[-1]
        if fault.meanwhile == "freeze":  # this one sleeps, the others go on
            acting.frozen = True
            self.elapse(float(fault.number))
            acting.frozen = False
            return
        self.do(fault.meanwhile, fault.number)

    def do(self, name: str, number: int, fault: Fault | None = None) -> None:
        """Do what is named."""
        operation = getattr(self, name)
        if fault is None:
            operation(number)
        else:
            operation(number, fault)

    # -- clients

    def submit(self, kind: str, n: int = 1, max_tokens: int = 4, number: int = 0, fault: Fault | None = None) -> None:
        """Ask for an answer: `chat` is waited for, `background` and `idempotent` run by themselves."""
        request = {"messages": [{"role": "user", "content": "x"}], "max_tokens": max_tokens, "n": n}
        background, key = kind == "background", f"again{number}" if kind == "idempotent" else None

        def ask() -> Any:
            try:
                return self.web.inference.submit(
                    "chat", MODELS[0], request, key=KEY, background=background, idempotency_key=key
                )
            except HeadraceError as error:
                log.info("refused: %r", error)
                return None

        run_id = WIRE.run_id
        submitted = self.act(self.web, f"request {len(self.jobs)} {len(self._acting)}", ask, fault)
        if submitted is None:
            return
        job_id = submitted.job.id
        facts = self.facts.setdefault(job_id, Facts(job_id))
        facts.accepted = True
        if run_id == WIRE.run_id:  # else it may be gone before the client was told
            facts.may_be_gone = False
        self.jobs.append(job_id)
        if submitted.watcher is not None:
            self.clients.append(Client(job_id, submitted.watcher))

    def cancel(self, number: int, fault: Fault | None = None) -> None:
        """A client cancels a job."""
        if job_id := self._job(number):
            self.facts[job_id].may_be_cancelled = True

            def ask() -> None:
                try:
                    self.web.inference.cancel(job_id, key=KEY)
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
            if old._hub is self.web.hub:
                old.close()

        self.act(self.web, "connect", connect, fault)

    def _job(self, number: int) -> str:
        return self.jobs[number % len(self.jobs)] if self.jobs else ""

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

    # -- hints

    def lose_hints(self, number: int = 0) -> None:
        """What is in the queues is lost."""
        with self.server.taking_writes():
            self.server.redis.delete(*QUEUES)

    def double_hints(self, number: int = 0) -> None:
        """What is in the queues is there twice."""
        with self.server.taking_writes():
            for name in QUEUES:
                for message in self.server.redis.lrange(name, 0, -1):
                    self.server.redis.rpush(name, message)

    # -- workers

    def _worker(self, number: int) -> ReplicaProcess:
        incarnation = f"w{number}.{self.numbers.token_hex(2)}"
        return ReplicaProcess(f"worker{number}", incarnation, self.around)

    def take(self, number: int, fault: Fault | None = None) -> bool:
        """A worker takes a hint, and claims its job."""
        worker = self.workers[number % 2]
        hint = self.act(worker, f"hints {len(self._acting)}", worker.next_hint)
        if hint:
            self.act(worker, f"task {len(self._acting)}", lambda: worker.replica.claim(*hint), fault)
        return bool(hint)

    def step(self, number: int, fault: Fault | None = None) -> None:
        """An engine makes a token for each of its jobs, and the worker writes them down."""
        worker = self.workers[number % 2]

        def both() -> None:
            worker.replica.step(1 + number // 2)
            worker.replica.tend()

        self.act(worker, "emitter", both, fault)

    def tend(self, number: int, fault: Fault | None = None) -> None:
        """A worker looks after its jobs."""
        worker = self.workers[number % 2]
        self.act(worker, "emitter", worker.replica.tend, fault)

    def engine_dies(self, number: int, fault: Fault | None = None) -> None:
        """An engine dies, and is started again."""
        worker = self.workers[number % 2]
        if not worker.frozen and "emitter" not in worker.busy:
            for run in worker.journaler.held:
                self.facts[run.id].crashes += 1
            self.act(worker, "emitter", lambda: worker.replica.engine_dies(killed=number > 3), fault)

    def drain(self, number: int, fault: Fault | None = None) -> None:
        """A worker gives back what it has."""
        worker = self.workers[number % 2]
        self.act(worker, "emitter", worker.replica.drain, fault)

    def refuse(self, number: int, fault: Fault | None = None) -> None:
        """An engine refuses what it runs."""
        worker = self.workers[number % 2]
        if not worker.frozen:
            for run in worker.journaler.held:
                self.facts[run.id].may_be_refused = True
            self.act(worker, "emitter", worker.replica.refuse, fault)

    def hand_over(self, number: int, fault: Fault | None = None) -> None:
        """The model that runs a job fails, and another is to go on."""
        for worker in self.workers:
            if job_id := self._job(number):
                self.act(worker, "emitter", lambda w=worker, j=job_id: w.replica.hand_over(j), fault)  # type: ignore[misc]

    # -- keepers, and time

    def round(self, number: int, fault: Fault | None = None) -> None:
        """A keeper looks at everything."""
        keeper = self.keepers[number % 2]
        self.act(keeper, "loop", keeper.round, fault)

    def compact(self, number: int, fault: Fault | None = None) -> None:
        """A keeper shrinks the journals of all that has ended."""
        keeper = self.keepers[number % 2]
        before_ms = 10**15
        for model in MODELS:
            self.act(keeper, "loop", lambda m=model: compact_ended(keeper.store, m, before_ms=before_ms), fault)  # type: ignore[misc]

    def elapse(self, seconds: float) -> None:
        """Time passes, and all that lives does what it does every second; the keepers first."""
        while seconds > 0:
            self.server.pass_time(min(seconds, SLICE_S))
            seconds -= SLICE_S
            self._all_go_on()

    def _all_go_on(self) -> None:
        for number in range(2):
            self.round(number)
        for number in range(2):
            self.tend(number)
        self._web_goes_on()

    def _web_goes_on(self) -> None:
        if self.web.frozen or self.web.name in WIRE.cut:
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
            if client.watcher._hub is not self.web.hub:
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
            self.act(successor, "agent", lambda: successor.replica.registry.bury(worker.incarnation))

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
            self.facts.setdefault(job_id, Facts(job_id)).may_be_gone = True
        self.lose()

    def forget_scripts(self, number: int = 0) -> None:
        """Redis forgets all scripts."""
        self.server.forget_scripts()

    def refuse_writes(self, number: int) -> None:
        """Redis has no room left, or no replica, or takes writes again."""
        self.server.refuse_writes(("", "memory", "replicas")[number % 3])

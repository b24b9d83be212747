"""The processes of a sequence, and how something is done in one of them, whatever goes wrong at its n-th command."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.access.api_keys import KeyRecord
from gateway.cluster.desired import Desired
from gateway.store import keys
from gateway.store.connection import NOT_NOW
from tests.interleavings.client import Client
from tests.interleavings.clock import Secrets
from tests.interleavings.lines import LinesWatch, leaks, running_twice
from tests.interleavings.processes import MODELS, KeeperProcess, Process, Surroundings, WebProcess
from tests.interleavings.replica import WORKERS, ReplicaProcess, replica
from tests.interleavings.server import Server
from tests.interleavings.wire import WIRE, Died, Plan

log = logging.getLogger(__name__)

KEYS = tuple(KeyRecord(name, name, "hr-", ("admin",), 0) for name in ("key", "other"))
#: How long a slice of time is, at most.
SLICE_S = 1.0


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
    #: A power cut has taken it, and the worker that would bring it back was stopped: clients wait some seconds only.
    may_expire: bool = False


class AllFacts(dict[str, Facts]):
    """Facts by job. Of a job that no client was told of, nothing is known at first."""

    def __missing__(self, job_id: str) -> Facts:
        self[job_id] = Facts(job_id)
        return self[job_id]


@dataclass
class Stage:
    """The processes, what is known of all jobs, and the one way to do something in a process."""

    around: Surroundings
    server: Server
    numbers: Secrets
    #: What was raised though nobody expected it.
    complaints: list[str]
    facts: AllFacts = field(default_factory=AllFacts)
    clients: list[Client] = field(default_factory=list)
    #: Jobs in the order in which they were accepted.
    jobs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._acting: list[Process] = []
        self._next_attend_s, self._seconds = 0.0, 0
        self._web_was_away_at = 0.0
        self.lines = LinesWatch(self.server.redis)
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
        Desired(store.redis).put(*(replica(model, name) for model in MODELS for name in WORKERS))
        store.redis.hset(keys.API_KEYS, mapping={key.id: key.id for key in KEYS})
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
        broken += [*self.lines.doubled(), *leaks(self.workers), *running_twice(self.workers)]
        assert not broken, "; ".join(broken)

    def _is_half_made(self, line: str) -> bool:
        """Whether a job is in no index whose maker has got an error: the keeper's walk over all records finds it."""
        job_id, _, what = line.partition(" ")
        return what.endswith("in no index") and not self.facts[job_id].accepted

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
            for number in range(2):
                self.do("step", number)
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

    def _worker(self, number: int) -> ReplicaProcess:
        incarnation = f"w{number}.{self.numbers.token_hex(2)}"
        return ReplicaProcess(WORKERS[number], incarnation, self.around)

    def _job(self, number: int) -> str:
        return self.jobs[number % len(self.jobs)] if self.jobs else ""

    def kill(self, process: Process, *, buried: bool = False) -> None:
        """A process is killed, and another takes its place."""
        raise NotImplementedError

    def elapse(self, seconds: float) -> None:
        """Time passes."""
        raise NotImplementedError

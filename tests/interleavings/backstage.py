"""What workers and keepers do in a sequence, and what becomes of the hints between them and the clients."""

from __future__ import annotations

from collections.abc import Callable

from gateway.jobs.compaction import compact_ended
from gateway.queue.names import lists, queue_of
from tests.interleavings.processes import MODELS
from tests.interleavings.replica import ReplicaProcess, wake_queues
from tests.interleavings.stage import Fault, Stage
from tests.interleavings.wire import WIRE

#: The lists in which hints wait.
QUEUES = [*(name for model in MODELS for name in lists(queue_of(model))), *wake_queues()]


class Backstage(Stage):
    """Each method is one step of one of them. Numbers stand for a process, or a job, modulo what there is."""

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

    def take(self, number: int, fault: Fault | None = None) -> None:
        """A worker takes a hint, if there is one, asks for jobs, and claims what it is offered."""
        worker = self.workers[number % 2]
        hint = self.act(worker, f"hints {len(self._acting)}", worker.next_hint)
        if self.act(worker, "puller", lambda: worker.replica.pull(hint), fault):
            late = [line for model in MODELS for line in self.lines.overdue(model, self.server.now_ms())]
            self.complaints += late

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
            self._let_go(worker, lambda: worker.replica.engine_dies(killed=number > 3), fault)

    def drain(self, number: int, fault: Fault | None = None) -> None:
        """A worker gives back what it has."""
        worker = self.workers[number % 2]
        self._let_go(worker, worker.replica.drain, fault)

    def _let_go(self, worker: ReplicaProcess, operation: Callable[[], None], fault: Fault | None) -> None:
        """A worker gives back all that it has. What Redis has just lost, and does not take, is known to nobody then."""
        held = worker.remembers()
        hindered = fault is not None or self.server.refusing or WIRE.down or worker.name in WIRE.cut
        self.act(worker, "emitter", operation, fault)
        if hindered:
            for job_id in held - worker.remembers() - self.server.records():
                self.facts[job_id].may_be_gone = True

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

    # -- keepers

    def round(self, number: int, fault: Fault | None = None) -> None:
        """A keeper looks at everything."""
        keeper = self.keepers[number % 2]
        if self.act(keeper, "loop", keeper.round, fault):
            self.complaints += self.lines.after_round()
        else:
            self.lines.disturbed()

    def compact(self, number: int, fault: Fault | None = None) -> None:
        """A keeper shrinks the journals of all that has ended."""
        keeper = self.keepers[number % 2]
        before_ms = 10**15
        for model in MODELS:
            self.act(keeper, "loop", lambda m=model: compact_ended(keeper.store, m, before_ms=before_ms), fault)  # type: ignore[misc]

"""How a replica gets its jobs: it asks for the best that it has slots for, when it is told that there are some, when a
slot becomes free, and once a second in any case, so that a message may be lost.

Knows no engine. Who gives its slots to whom is decided in `gateway/scheduling/policy.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from gateway.cluster.registry import Registry
from gateway.jobs.record import Cause, JobState
from gateway.scheduling.capacity import ServiceTime, SlotMean
from gateway.scheduling.lines import BACKGROUND, INTERACTIVE, MANY, NO_CHARGES, Lines, Offer, Wish
from gateway.scheduling.policy import BackgroundShare, Holder, Preemption, Presence, SlotLimits
from gateway.scheduling.spending import Spending
from gateway.store.cached import Cached
from gateway.store.connection import NOT_NOW
from gateway.store.loop import Loop, guarded
from workers.engines.prefill import AnswerLengths
from workers.handlers.base import EngineRun
from workers.journal.writer import Journaler
from workers.replica.admission import Admission
from workers.replica.engine_supervisor import EngineSupervisor
from workers.replica.lifetime import Lifetime
from workers.replica.slots import Slots, Ticket

log = logging.getLogger(__name__)

#: How often a replica asks though nothing has happened.
POLL_S = 1.0
#: Jobs that come faster than this are asked for so often.
BUSY_S, BUSY_POLL_S = 0.025, 0.004
#: How long a last answer is waited for.
JOIN_S = 1.0
#: Jobs that are prepared at once: their prompts are tokenized, their journals replayed.
PREPARERS = 4
#: Jobs whose prompts have at most so many tokens (over the weight of their API key) are claimed and prepared together:
#: to pass each to another thread would take longer than to tokenize it.
SHORT_PROMPT = 256
#: Jobs that this replica was told to take, and has no slots for yet.
MAX_NAMED = 1_000


#: Jobs with the slots that they have.
Tickets = Mapping[str, Ticket[EngineRun]]
#: Takes them, and returns those that run.
Take = Callable[[Tickets], list[EngineRun]]


class Puller:
    """Fills the slots of one replica. Any thread may wake it."""

    def __init__(
        self,
        *,
        model: str,
        queue: str,
        slots: Slots[EngineRun],
        admission: Admission,
        journaler: Journaler,
        registry: Registry,
        engine: EngineSupervisor,
        life: Lifetime,
    ) -> None:
        self._model = model
        self._queue = queue
        self._lines = Lines(journaler.store.redis, journaler.store.scripts)
        self._slots = slots
        self._admission = admission
        self._journaler = journaler
        self._settings = settings = journaler.settings
        self._preemption = Preemption(settings.preemption, settings.max_preemptions)
        self._share = BackgroundShare(settings.background_share)
        self._presence = Presence(slots.total, settings.background_share)
        self._answers = AnswerLengths()
        self._registry = registry
        self._alone: Cached[bool] = Cached()
        self._engine = engine
        self._life = life
        #: How long interactive and background jobs have held their slots.
        self.service = {False: ServiceTime(), True: ServiceTime()}
        #: How many they get while some of them wait, or would get.
        self._gets = {False: SlotMean(slots.total), True: SlotMean(slots.total)}
        self._woken = threading.Event()
        self._spending = Spending()
        self._named: deque[str] = deque(maxlen=MAX_NAMED)
        #: Jobs that it has not begun to claim.
        self._offered: set[str] = set()
        #: Redis knows of a free slot here, so that a new job wakes this replica.
        self._is_open = False
        #: Slots that background jobs may hold together.
        self._most_background = slots.total
        #: Somebody may have no more slots, so that it has to ask when a job ends, though others are free.
        self._is_limited = False
        #: When it got its last job; whether the next is expected at any moment, so that it asks and is not told.
        self._taken_at = 0.0
        self._is_busy = False
        self._preparers = ThreadPoolExecutor(PREPARERS, thread_name_prefix="prepare")
        self._loop = Loop(self._step, name="puller", over=life.stopping.is_set)

    def start(self) -> None:
        """Begin to ask for jobs."""
        self._loop.start()

    def wake(self, job_id: str = "") -> None:
        """There is work; `job_id` is a job that this replica itself is to take."""
        self._is_open = False
        if job_id:
            self._named.append(job_id)
        self._woken.set()

    def count(self, run: EngineRun, tokens: int) -> None:
        """Tokens were made for a job."""
        job = run.job
        self._spending.count(self._model, job.key_id, tokens, background=job.background, weight=job.weight)

    def ended(self, run: EngineRun) -> None:
        """A job leaves the batch."""
        slots = self._slots.leave(run)
        if run.state is JobState.DONE and slots:
            self._answers.note(run.new_tokens // slots)
        held_s = slots * (time.monotonic() - run.claimed_at)
        self.service[run.job.background].count(held_s, ended=run.state is not None)
        self.slots_freed()

    def slots_freed(self) -> None:
        """Somebody has given slots back."""
        if self._named or self._is_limited or not (self._is_open or self._is_busy):
            self._woken.set()

    def figures(self) -> dict[str, float]:
        """What the heartbeat says of the slots, see `Replica`. Raises: NOT_NOW."""
        held = Counter({False: 0, True: 0})
        for run, slots in self._slots.held():
            held[run.job.background] += slots
        if self._engine.ready.is_set():
            self._note_slots(held)
        return {
            "held": held[False],
            "background_held": held[True],
            "gets": round(self._gets[False].mean, 3),
            "background_gets": round(self._gets[True].mean, 3),
            "slot_s": round(self.service[False].mean_s, 4),
            "background_slot_s": round(self.service[True].mean_s, 4),
        }

    def _note_slots(self, held: Mapping[bool, int]) -> None:
        """Interactive jobs would get all slots; background jobs what those leave, and their share in any case."""
        now, total, waiting = time.monotonic(), self._slots.total, self._lines.waiting(self._model)
        left = max(min(total - held[False], self._most_background), self._settings.background_share * total)
        self._gets[False].note(now, held[False] if waiting.interactive else total)
        self._gets[True].note(now, held[True] if waiting.background else left)

    def close(self) -> None:
        """Ask for nothing more. What it was offered and has not begun to claim is left to others."""
        self._woken.set()
        self._loop.join(JOIN_S)
        self._preparers.shutdown(wait=False, cancel_futures=True)
        try:
            self._lines.close(self._model, self._queue, list(self._offered))
        except NOT_NOW as error:
            log.warning(
                "%s: not closed (%s); it may be told of a job, which others then find later", self._queue, error
            )

    def _step(self) -> None:
        self._woken.wait(BUSY_POLL_S if self._is_busy else POLL_S)
        self._woken.clear()
        if self._life.stopping.is_set():
            return
        self._is_open = False  # slots that become free from here on may be unknown to Redis
        if not self._engine.ready.is_set():
            self._is_busy = False
            self._lines.close(self._model, self._queue)
            return
        while self._named and self._slots.free > 0:
            self._begin(self._take, {self._named.popleft(): self._slots.hold(1)})
        holders = self._holders()
        now, made = time.monotonic(), self._spending.made()
        self._share.count(now, background=made[True], interactive=made[False])
        held, background = self._held_slots()
        self._presence.note(now, held)
        limits = self._limits()
        self._most_background = limits.background
        wish = self._wish(holders, limits, held, background)
        with self._spending.charging() as charges:
            offers = self._lines.next_jobs(self._model, wish, charges.get(self._model, NO_CHARGES))
        needed = sum(min(offer.slots, wish.total) for offer in offers)
        if any(offer.takes_back for offer in offers):
            self._take_back(self._preemption.victims(holders, needed - wish.free))
        lines = Counter(offer.line for offer in offers)
        self._share.started(background=lines[BACKGROUND], interactive=lines[INTERACTIVE])
        self._accept({offer: self._hold(offer, wish, held) for offer in offers})
        self._keep_limits(now)
        self._note_pace(has_room=wish.free > needed, taken=bool(offers))

    def _accept(self, tickets: dict[Offer, Ticket[EngineRun]]) -> None:
        """Begin offered jobs: new ones with short prompts together, the others each for itself."""
        short = [offer for offer in tickets if offer.is_new and offer.prompt <= SHORT_PROMPT]
        self._begin(self._admission.take_new, {offer.job_id: tickets.pop(offer) for offer in short})
        for offer, ticket in tickets.items():
            self._begin(self._admission.take_new if offer.is_new else self._take, {offer.job_id: ticket})

    def _hold(self, offer: Offer, wish: Wish, held: Counter[str]) -> Ticket[EngineRun]:
        """The slots of an offered job."""
        background = offer.line == BACKGROUND
        if offer.line == INTERACTIVE:
            held[offer.key_id] += offer.slots
        yields = background or self._presence.crowds(offer.key_id, held[offer.key_id])
        return self._slots.hold(
            offer.slots, offer.tokens(wish), key_id=offer.key_id, background=background, yields=yields
        )

    def _keep_limits(self, now: float) -> None:
        """Take back what is held above the limits, now that others are there."""
        held, background = self._held_slots()
        self._presence.note(now, held)
        limits = self._limits()
        self._is_limited = limits.are_reached(background, held, self._slots.total)
        self._take_back(self._preemption.excess(self._holders(), limits, owed=self._share.owed))

    def _note_pace(self, *, has_room: bool, taken: bool) -> None:
        """Where one job follows the other, asking costs less than being told of each. It would be before other replicas
        that are told, so it is done only where there are none."""
        now, was_busy = time.monotonic(), self._is_busy
        self._is_open = has_room and not was_busy
        self._is_busy = has_room and now - self._taken_at < BUSY_S and self._is_alone()
        if taken:
            self._taken_at = now
        if was_busy and not self._is_busy:
            self._woken.set()  # it asks once more, to be told of the next

    def _is_alone(self) -> bool:
        return self._alone.get(lambda: self._registry.is_alone(self._model))

    def _limits(self) -> SlotLimits:
        return self._presence.limits(*self._engine.step_times)

    def _held_slots(self) -> tuple[Counter[str], int]:
        """Slots that interactive jobs hold, by API key; those that background jobs hold."""
        held: Counter[str] = Counter()
        background = 0
        for ticket in self._slots.tickets():
            job = ticket.owner and ticket.owner.job
            if job.background if job else ticket.background:
                background += ticket.slots
            elif key_id := job.key_id if job else ticket.key_id:
                held[key_id] += ticket.slots
        return held, background

    def _wish(self, holders: Sequence[Holder], limits: SlotLimits, held: Counter[str], background: int) -> Wish:
        capacity = self._engine.kv_capacity_tokens
        return Wish(
            self._queue,
            self._slots.total,
            max(0, self._slots.free),
            room=max(0, capacity - self._slots.tokens) if capacity else -1,
            context=self._engine.context_length or MANY,
            answer=self._answers.expected(made=0, max_tokens=MANY),
            background=self._preemption.background_slots(holders, owed=self._share.owed),
            crowded=self._preemption.crowded_slots(holders, self._slots.total),
            owed=int(self._share.is_next),
            background_held=background,
            background_most=limits.background,
            key_most=limits.one_key,
            quarantined=self._admission.takes_quarantined,
            tell=not self._is_busy,
            held=held,
        )

    def _holders(self) -> list[Holder]:
        return [
            Holder(run, run.job.key_id, slots, run.job.background, run.claimed_at, run.job.preemptions)
            for run, slots in self._slots.held()
        ]

    def _take_back(self, holders: Sequence[Holder]) -> None:
        victims = [cast(EngineRun, holder.job) for holder in holders]
        if victims:
            log.info("%d jobs give way to jobs that somebody waits for", len(victims))
            self._journaler.release(victims, Cause.PREEMPTED)

    def _begin(self, take: Take, tickets: Tickets) -> None:
        """Claim and prepare jobs beside others; they have their slots, `tickets`."""
        if not tickets:
            return
        self._offered.update(tickets)
        try:
            self._preparers.submit(self._take_all, take, tickets)
        except RuntimeError:  # the process ends
            self._give_back(tickets)

    def _take_all(self, take: Take, tickets: Tickets) -> None:
        begun: set[str] = set()
        self._offered.difference_update(tickets)
        try:
            with guarded(f"jobs {', '.join(tickets)}"):
                begun = {run.id for run in take(tickets)}
        finally:
            self._give_back({job_id: ticket for job_id, ticket in tickets.items() if job_id not in begun})

    def _take(self, tickets: Tickets) -> list[EngineRun]:
        runs = [self._admission.take(job_id, ticket) for job_id, ticket in tickets.items()]
        return [run for run in runs if run is not None]

    def _give_back(self, tickets: Tickets) -> None:
        for ticket in tickets.values():
            self._slots.give_back(ticket)
        if tickets:
            self.slots_freed()

"""How a provider worker gets its jobs: it asks for the best ones of all its models that it has threads for, when it is
told that there are some, when a job ends, and once a second in any case, so that a message may be lost.

Knows no provider and no claim. A call can't be interrupted without paying for it twice, so no job gives its thread back
to another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gateway.process.threads import IdleThreads
from gateway.scheduling.lines import BACKGROUND, FIRST, INTERACTIVE, Lines, Offer, Wish
from gateway.scheduling.policy import BackgroundShare
from gateway.scheduling.spending import Spending
from gateway.store.connection import NOT_NOW
from gateway.store.loop import Loop, guarded
from workers.providers.run import ProviderRun

log = logging.getLogger(__name__)

#: How often it asks though nothing has happened.
POLL_S = 1.0
#: How long a last answer is waited for.
JOIN_S = 1.0
#: Threads that one job takes, however many answers it asks for.
PER_JOB = 1


class Puller:
    """Fills the threads of a provider worker. Any thread may wake it."""

    def __init__(
        self,
        *,
        queue: str,
        lines: Lines,
        threads: int,
        idle_s: float,
        share: float,
        models: Callable[[], Sequence[str]],
        run: Callable[[str], None],
        takes_quarantined: Callable[[], bool],
    ) -> None:
        #: The queue of the messages that wake it.
        self.queue = queue
        self._lines = lines
        self._models = models
        self._run = run
        self._takes_quarantined = takes_quarantined
        self._share = BackgroundShare(share)
        self._woken, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._free = threads
        #: By line, the model that was the last to give a job.
        self._served: dict[str, str] = {}
        self._spending = Spending()
        self._threads = IdleThreads(threads, "job", idle_s=idle_s)
        self._loop = Loop(self._step, name="puller", over=self._closed.is_set)

    def start(self) -> None:
        """Begin to ask for jobs."""
        self._loop.start()

    def wake(self) -> None:
        """There is work."""
        self._woken.set()

    def count(self, run: ProviderRun) -> None:
        """Charge what was made for a job since the last call. What was estimated too high is given back."""
        job = run.job
        self._spending.count(job.runs_on, job.key_id, run.new_tokens(), background=job.background, weight=job.weight)

    def close(self) -> None:
        """Ask for nothing more. What it was offered and has not claimed yet is left to others."""
        self._closed.set()
        self._woken.set()
        self._loop.join(JOIN_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            for model in self._models():
                self._lines.close(model, self.queue)
        except NOT_NOW as error:
            log.warning("%s: not closed (%s); it may be told of a job, which others then find later", self.queue, error)

    def _step(self) -> None:
        self._woken.wait(POLL_S)
        self._woken.clear()
        models = sorted(self._models())
        if self._closed.is_set() or not models:
            return
        with self._lock:
            free = self._free
        made = self._spending.made()
        self._share.count(time.monotonic(), background=made[True], interactive=made[False])
        wish = Wish(
            self.queue,
            PER_JOB,
            free,
            owed=int(self._share.is_next),
            quarantined=self._takes_quarantined(),
            served=self._served,
        )
        with self._spending.charging() as charges:
            offers = self._lines.next_of(models, wish, charges)
        started = Counter(offer.line for offer in offers)
        self._share.started(background=started[BACKGROUND], interactive=started[INTERACTIVE])
        for offer in offers:
            self._served[offer.line if offer.line in (BACKGROUND, INTERACTIVE) else FIRST] = offer.model
            self._begin(offer)

    def _begin(self, offer: Offer) -> None:
        with self._lock:
            self._free -= PER_JOB
        try:
            self._threads.submit(self._take, offer.job_id)
        except RuntimeError:  # the process ends
            self._end()

    def _take(self, job_id: str) -> None:
        try:
            with guarded(f"job {job_id}"):
                self._run(job_id)
        except NOT_NOW as error:
            log.warning("job %s: not begun (%s); it is offered again", job_id, error, extra={"job_id": job_id})
        finally:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._free += PER_JOB
        self._woken.set()

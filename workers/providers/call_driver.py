"""Makes the calls of one job: records each in the journal first, and repeats it or gives up as the policy says.

It runs in the job's thread. Knows no claim and no heartbeat.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gateway.inference.breaker import Call
from gateway.inference.routing import Router
from gateway.store.connection import NOT_NOW, retry_until_redis_answers
from workers.providers.base import UpstreamDelta
from workers.providers.continuation import is_bound
from workers.providers.failures import UpstreamFailure
from workers.providers.fallbacks import Fallbacks
from workers.providers.mailbox import Mailbox
from workers.providers.policy import Step, after
from workers.providers.provider_calls import Calls
from workers.providers.run import ProviderRun

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The text for a job whose worker is gone.
LOST = "The provider worker that ran it was lost or stopped"


def unable(refusal: UpstreamFailure) -> UpstreamFailure:
    """The failure when a provider refuses to continue an answer: the fault is not the client's request."""
    text = f"It can't go on with a begun answer. {refusal.message}"
    return UpstreamFailure("upstream_interrupted", text, retryable=False, blame=False)


class Finished(Exception):
    """The worker has nothing more to do with a job."""


class CallDriver:
    """Makes the calls of all jobs of a worker. Events go through the mailbox to the emitter's thread."""

    def __init__(self, calls: Calls, router: Router, fallbacks: Fallbacks, mailbox: Mailbox) -> None:
        self._calls = calls
        self._router = router
        self._fallbacks = fallbacks
        self._mailbox = mailbox

    def drive(self, run: ProviderRun) -> None:
        """Call until the job is done, has failed, or belongs to another model."""
        step = self._first_step(run)
        while step.go and not run.finished.wait(step.wait_s):
            failure = self._attempt(run, step)
            if failure is None:
                break
            if not run.finished.is_set():
                log.warning("job %s: %s: %s", run.id, failure.reason, failure.message)
                step = self._after(run, failure, step.tries)

    def _first_step(self, run: ProviderRun) -> Step:
        """Where to start: at the beginning, where another model stopped, or where an earlier claim stopped."""
        resume_point = run.transcript.resume_point
        if resume_point is None or not resume_point.own:
            return Step(go=True, mode=resume_point.mode if resume_point else "")
        if not run.transcript.missing:
            self._mailbox.post(run.done, run)
            return Step(go=False)
        failure = UpstreamFailure("upstream_interrupted", f"{LOST}.", blame=False)
        # A job that kills workers runs out of tries here.
        return self._after(run, failure, tries=max(0, run.job.losses - 1), lost=True)

    def _attempt(self, run: ProviderRun, step: Step) -> UpstreamFailure | None:
        """Make one call, from its event in the journal to its end. Returns None if the job is done or cancelled."""
        provider = run.provider
        circuit = self._retry(run, lambda: self._router.breaker.allow(provider.name))
        if circuit is None:
            return None
        if not circuit.allows_call:
            text = f"Provider {provider.name} has failed several times in a row and is left alone."
            return UpstreamFailure("upstream_unavailable", text, False, max(1.0, circuit.retry_after_s), blame=False)
        self._open(run, step)
        if run.finished.is_set() or run.state is not None:
            return None
        begun, begun_at = run.transcript.has_output, time.monotonic()

        def sink(piece: UpstreamDelta) -> None:
            self._mailbox.post(lambda: run.take(piece), run)

        try:
            call = self._calls.start(provider, run.model, run.transcript, sink)
            run.calling(call)
            call.result()
        except concurrent.futures.CancelledError:
            with contextlib.suppress(*NOT_NOW):
                self._router.breaker.cancelled(provider.name, Call("cancelled", time.monotonic() - begun_at))
            return None
        except UpstreamFailure as error:
            failure = unable(error) if begun and error.refused else error
            self._retry(run, partial(self._blame, provider.name, failure, time.monotonic() - begun_at))
            return failure
        over = Call("done", time.monotonic() - begun_at)
        self._retry(run, lambda: self._router.breaker.success(provider.name, over))
        self._mailbox.post(run.done, run)
        return None

    def _open(self, run: ProviderRun, step: Step) -> None:
        """Record in the journal that a call is about to be made, so that a later worker knows of it."""
        resume_point = run.transcript.resume_point
        info = dict(resume_point.announcement()) if resume_point else {}
        if step.tries or (resume_point and resume_point.own):
            stays = run.transcript.restart() if step.mode == "restart" else None
            info |= {"mode": step.mode or "continue", "reason": step.reason, **run.transcript.record()}
            info |= {} if stays is None else {"text": stays}
        on_record = threading.Event()
        self._mailbox.post(lambda: run.open_call(info, on_record), run)
        while not on_record.wait(0.5) and not run.finished.is_set():
            continue

    def _after(self, run: ProviderRun, failure: UpstreamFailure, tries: int, *, lost: bool = False) -> Step:
        """Decide what to do about a failure, and do it if it ends the job here."""
        others = self._retry(run, lambda: self._fallbacks.of(run)) or []
        step = after(
            failure,
            run=run,
            policy=self._fallbacks.asked(run).on_interrupt,
            others=others,
            continues=lambda model: self._fallbacks.continues(run, model),
            tries=tries,
            lost=lost,
            bound=is_bound(run.transcript),
        )
        if step.next:
            body: dict[str, Any] = {"model": run.model.id, "provider": run.provider.name, "reason": failure.reason}
            body |= {"skipped": dict(run.skipped)} if run.skipped else {}
            self._mailbox.post(
                lambda: run.hand_over(step.next, {**body, "message": failure.message, "mode": step.mode}), run
            )
        elif not step.go:
            details, text = failure.details(run.provider), step.message or failure.message
            for name, why in () if failure.refused else run.skipped.items():
                text += f" Its fallback {name} can't do what is asked: {why}"
            self._mailbox.post(lambda: run.fail(failure.reason, text, **details), run)
        return step

    def _retry(self, run: ProviderRun, look: Callable[[], T]) -> T | None:
        """Call `look` until Redis answers; None if the job is over before that."""

        def wait(pause_s: float) -> None:
            if run.finished.wait(pause_s):
                raise Finished

        try:
            wait(0)
            return retry_until_redis_answers(look, what=f"job {run.id}", wait=wait)
        except Finished:
            return None

    def _blame(self, provider: str, failure: UpstreamFailure, took_s: float) -> None:
        """Tell the circuit breaker. A refused request counts as a success."""
        call = Call(failure.reason, took_s)
        if failure.blame:
            self._router.breaker.failure(provider, call)
        else:
            self._router.breaker.success(provider, call)

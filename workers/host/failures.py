"""The failure reason of a stage, from errors of stages, of engines and of the machine."""

from __future__ import annotations

import signal

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.process.start import how_ended
from workers.engines.failures import classify


def failure_of(error: BaseException) -> tuple[FailureReason, str]:
    """The reason and the text for people. An error without a known reason takes that of what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeploymentFailed):
            return cause.reason, cause.message
        cause = cause.__cause__
    reason, message = classify(error)
    return FailureReason(reason), message


def failure_of_exit(status: int, *, new_oom_kills: int) -> tuple[FailureReason, str]:
    """The reason for a process that ended while it loaded; a negative status is the signal's number."""
    if status == -signal.SIGKILL and new_oom_kills > 0:
        return FailureReason.OUT_OF_MEMORY, "the kernel killed the engine for want of memory while it loaded"
    return FailureReason.ENGINE_CRASHED, f"while it loaded, the engine process {how_ended(status)}"

"""Why an engine could not be loaded, told from the error that it raised. Imports no engine."""

from __future__ import annotations

import errno
import signal

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.process.start import how_ended

_ERRNOS = {
    errno.ENOENT: FailureReason.MISSING_FILE,
    errno.ENOSPC: FailureReason.NO_SPACE,
    errno.EDQUOT: FailureReason.NO_SPACE,
    errno.ENOMEM: FailureReason.OUT_OF_MEMORY,
}
#: What libraries say in plain RuntimeErrors, which have no class or code to tell them apart: torch's CPU allocator,
#: then OpenVINO and the C++ library.
_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "larger than available memory",
    "more memory than available",
    "bad_alloc",
    "bad allocation",
)


def classify(error: BaseException) -> tuple[FailureReason, str]:
    """The reason and the text for people. An error without a known reason takes that of what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        reason = _reason(cause)
        if reason:
            return reason, str(cause) or type(cause).__name__
        cause = cause.__cause__
    return FailureReason.INTERNAL, f"{type(error).__name__}: {error}"


def classify_exit(status: int, *, new_oom_kills: int) -> tuple[FailureReason, str]:
    """The reason for a process that ended while it loaded; a negative status is the signal's number."""
    if status == -signal.SIGKILL and new_oom_kills > 0:
        return FailureReason.OUT_OF_MEMORY, "the kernel killed the engine for want of memory while it loaded"
    return FailureReason.ENGINE_CRASHED, f"while it loaded, the engine process {how_ended(status)}"


def _reason(error: BaseException) -> FailureReason | None:
    if isinstance(error, DeploymentFailed):
        return error.reason
    # torch.OutOfMemoryError, which can't be imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return FailureReason.OUT_OF_MEMORY
    # What safetensors says of a file, which can't be imported here either.
    if type(error).__name__ == "SafetensorError":
        return FailureReason.CHECKSUM
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno or 0)
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS):
        return FailureReason.OUT_OF_MEMORY
    return None

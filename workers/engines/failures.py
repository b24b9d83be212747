"""Why an engine could not be loaded: the errors that engines raise, and the meaning of their libraries' errors."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """The reasons of `gateway/deployments/reasons.py` that an engine may report while it loads."""

    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    MISSING_FILE = "MISSING_FILE"
    UNSUPPORTED_ARCHITECTURE = "UNSUPPORTED_ARCHITECTURE"
    UNSUPPORTED_OPTION = "UNSUPPORTED_OPTION"
    BAD_QUANTIZATION = "BAD_QUANTIZATION"
    CHECKSUM = "CHECKSUM"
    NO_SPACE = "NO_SPACE"
    ENGINE_CRASHED = "ENGINE_CRASHED"
    INTERNAL = "INTERNAL"


class LoadFailed(Exception):
    """An engine can't be loaded. The text is for the person who deploys."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ChildEnded(LoadFailed):
    """A child process of an engine ended too early. The process that started the engine finds out why."""

    def __init__(self, child: str, status: int) -> None:
        super().__init__(Reason.ENGINE_CRASHED, f"{child} ended with status {status}")
        self.child = child
        #: Its exit status; a negative one is the signal's number.
        self.status = status


_ERRNOS = {
    errno.ENOENT: Reason.MISSING_FILE,
    errno.ENOSPC: Reason.NO_SPACE,
    errno.EDQUOT: Reason.NO_SPACE,
    errno.ENOMEM: Reason.OUT_OF_MEMORY,
}
#: Texts of plain RuntimeErrors, which have no class or code to tell them apart: torch's CPU allocator, then OpenVINO
#: and the C++ library.
_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "larger than available memory",
    "more memory than available",
    "bad_alloc",
    "bad allocation",
)


def classify(error: BaseException) -> tuple[Reason, str]:
    """The reason and the text for people. An error without a known reason takes that of what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        reason = _reason(cause)
        if reason:
            return reason, str(cause) or type(cause).__name__
        cause = cause.__cause__
    return Reason.INTERNAL, f"{type(error).__name__}: {error}"


def to_payload(error: BaseException) -> dict[str, Any]:
    """The failure as it crosses processes."""
    if isinstance(error, ChildEnded):
        return {"child": error.child, "status": error.status}
    reason, message = classify(error)
    return {"reason": reason, "message": message}


def failure_from(to_payload: Mapping[str, Any]) -> LoadFailed:
    """The failure in a frame of another process. Raises: KeyError, ValueError if the frame is not one."""
    if "child" in to_payload:
        return ChildEnded(str(to_payload["child"]), int(to_payload["status"]))
    return LoadFailed(Reason(to_payload["reason"]), str(to_payload["message"]))


def _reason(error: BaseException) -> Reason | None:
    if isinstance(error, LoadFailed):
        return error.reason
    # torch.OutOfMemoryError, which can't be imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Reason.OUT_OF_MEMORY
    # safetensors can't be imported here either.
    if type(error).__name__ == "SafetensorError":
        return Reason.CHECKSUM
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno or 0)
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS):
        return Reason.OUT_OF_MEMORY
    return None

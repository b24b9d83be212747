"""Why a deployment fails: a code for programs, and a remedy for people."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class FailureReason(StrEnum):
    """The classes of failure. REMEDIES has what to do about each."""

    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    MISSING_FILE = "MISSING_FILE"
    UNSUPPORTED_ARCHITECTURE = "UNSUPPORTED_ARCHITECTURE"
    UNSUPPORTED_OPTION = "UNSUPPORTED_OPTION"
    BAD_QUANTIZATION = "BAD_QUANTIZATION"
    #: A file whose format can run code when it is read.
    UNSAFE_FILE = "UNSAFE_FILE"
    CHECKSUM = "CHECKSUM"
    #: A chat template that can't be read.
    BAD_TEMPLATE = "BAD_TEMPLATE"
    NO_SPACE = "NO_SPACE"
    #: The source of the weights does not answer, or refuses.
    SOURCE_UNREACHABLE = "SOURCE_UNREACHABLE"
    ENGINE_CRASHED = "ENGINE_CRASHED"
    TIMED_OUT = "TIMED_OUT"
    NODE_GONE = "NODE_GONE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self]


REMEDIES = {
    FailureReason.OUT_OF_MEMORY: "Choose a smaller quantization, batch or context, or a device with more free memory.",
    FailureReason.MISSING_FILE: "Check the model's `source`, and that all of its files are there.",
    FailureReason.UNSUPPORTED_ARCHITECTURE: "Choose another engine, or a model that the engine supports.",
    FailureReason.UNSUPPORTED_OPTION: "Leave the option out, or choose an engine or device that has it.",
    FailureReason.BAD_QUANTIZATION: "Choose a quantization that the engine offers for this source.",
    FailureReason.UNSAFE_FILE: "Use a source with safetensors, GGUF or OpenVINO IR files.",
    FailureReason.CHECKSUM: "Deploy again: the damaged file was removed. If it happens again, the source is damaged.",
    FailureReason.BAD_TEMPLATE: "Correct the chat template in the model's files, or take another conversion of it.",
    FailureReason.NO_SPACE: "Free disk space, or set HEADRACE_DATA_DIR to a larger disk.",
    FailureReason.SOURCE_UNREACHABLE: "Check the network and the source's address and credentials, then deploy again.",
    FailureReason.ENGINE_CRASHED: "See the last log lines; try a smaller batch, or another quantization.",
    FailureReason.TIMED_OUT: "See which stage was slow in the log, then deploy again.",
    FailureReason.NODE_GONE: "Start the agent of that node, or choose another one in `target_nodes`.",
    FailureReason.CANCELLED: "Deploy again when you want the model.",
    FailureReason.INTERNAL: "See the log of the agent and of the model worker.",
}


def reason_of(failure: Mapping[str, str]) -> FailureReason:
    """The reason of a stored failure; `INTERNAL` for one that only another version knows."""
    word = failure.get("reason", "")
    return FailureReason(word) if word in set(FailureReason) else FailureReason.INTERNAL


class DeploymentFailed(Exception):
    """A stage failed. The text is for the person who deploys."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class SourceFailed(DeploymentFailed):
    """A model's files can't be fetched or read."""

"""Int8 and int4 of the weights in an OpenVINO IR folder, made by NNCF in a process of its own.

The process gives its memory back when it ends. It removes the copy of the model if the engine is killed, and the engine
if the process is.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.process.crashes import oom_kills
from gateway.process.start import module_command
from workers.engines.failures import classify_exit
from workers.engines.frames import FrameSocket

#: What NNCF can make of weights that are stored in 16 or 32 bits.
COMPRESSED = ("int8", "int4")


@contextmanager
def compressed(folder: Path, quantization: str) -> Iterator[Path]:
    """A copy of the folder with compressed weights, for as long as the context; who has it open may go on with it.

    Raises:
        DeploymentFailed: it can't be compressed; the reason is in the text.
    """
    ooms = oom_kills()
    copy = Path(mkdtemp(prefix="headrace-"))
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            module_command("workers.engines.compression_process", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    try:
        with ours:
            frames = FrameSocket(ours)
            frames.send({"folder": str(folder), "copy": str(copy), "quantization": quantization})
            try:
                told = frames.receive()
            except (EOFError, OSError) as error:
                reason, message = classify_exit(process.wait(), new_oom_kills=oom_kills() - ooms)
                raise DeploymentFailed(reason, f"compressing the weights: {message}") from error
            if "reason" in told:
                raise DeploymentFailed(FailureReason(told["reason"]), told["message"])
            yield copy
    finally:
        process.wait()
        shutil.rmtree(copy, ignore_errors=True)

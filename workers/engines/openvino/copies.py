"""Copies of a model that an engine loads instead of the original, removed when it has: compressed, or writable.

NNCF compresses the weights of an OpenVINO IR folder to int8 or int4 in a process of its own, which frees its memory
when it ends. That removes the copy even if the engine is killed; if the process is killed, the engine removes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from workers.engines.children import greet, spawn
from workers.engines.failures import ChildEnded, failure_from
from workers.engines.frames import FrameSocket

#: Quantizations that NNCF can make of weights stored in 16 or 32 bits.
COMPRESSED = ("int8", "int4")


@contextmanager
def compressed(folder: Path, quantization: str) -> Iterator[Path]:
    """A copy of the folder with compressed weights, removed at the end of the context. Open files stay usable.

    Raises:
        LoadFailed: it can't be compressed; the reason is in the text.
    """
    copy = Path(mkdtemp(prefix="headrace-"))
    process, ours = spawn("workers.engines.openvino.compression_process", stdout=subprocess.DEVNULL)
    try:
        with ours:
            frames = FrameSocket(ours)
            greet(frames, {"folder": str(folder), "copy": str(copy), "quantization": quantization})
            try:
                told = frames.receive()
            except (EOFError, OSError) as error:
                raise ChildEnded("compressing the weights", process.wait()) from error
            if "done" not in told:
                raise failure_from(told)
            yield copy
    finally:
        process.wait()
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def writable(path: Path) -> Iterator[Path]:
    """A GGUF file that OpenVINO opens: it wants to write to it, though it never does. The file itself, or a copy of one
    of another user, or on a volume that is read only.

    Raises:
        OSError: there is no room for the copy.
    """
    if path.is_dir() or os.access(path, os.W_OK):
        yield path
        return
    with TemporaryDirectory(prefix="headrace-") as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))

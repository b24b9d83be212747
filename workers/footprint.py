"""What a model's files say about its size, read from their headers; no weights are loaded.

A new format is one file in `workers/formats/`, a line below, and its names in `gateway/formats.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gateway.failures import FailureReason
from gateway.formats import Weights, detect
from gateway.memory import Footprint
from workers.formats.files import Files, LocalFiles
from workers.sources.base import SourceFailed

#: Each has `footprint(files, weights)`; imported when it is needed.
FORMATS = {name: f"workers.formats.{name}" for name in ("gguf", "openvino", "safetensors")}


def read_footprint(path: Path, *, readable: Sequence[str] = ()) -> Footprint:
    """Of a folder or a GGUF file; `readable` are the formats to prefer if there are several.

    Raises:
        SourceFailed: MISSING_FILE, UNSAFE_FILE, UNSUPPORTED_ARCHITECTURE, or CHECKSUM for a file that is cut off.
    """
    return footprint_of(LocalFiles(path), readable=readable)


def footprint_of(files: Files, *, readable: Sequence[str] = ()) -> Footprint:
    """Of files that may lie elsewhere. Raises: SourceFailed."""
    weights = detect(files.sizes, readable=readable, is_file=files.is_file)
    read: Callable[[Files, Weights], Footprint] = import_module(FORMATS[weights.format]).footprint
    try:
        return read(files, weights)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        # Headers are others' data: whatever is wrong with them comes out as one of these.
        raise SourceFailed(
            FailureReason.CHECKSUM, f"{weights.files[0]} or what describes it is damaged: {error!r}."
        ) from error

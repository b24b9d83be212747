"""Reads a model's footprint from the headers of its files. Loads no weights.

A new format is one file in `workers/formats/`, a line below, and its names in `workers/formats/detect.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gateway.deployments.reasons import FailureReason
from gateway.models.footprint import Footprint
from workers.formats.detect import SAFETENSORS_INDEX, Weights, detect
from workers.formats.files import Files, LocalFiles, read_json
from workers.sources.base import SourceFailed

#: Each has `footprint(files, weights)`; imported when it is needed.
FORMATS = {name: f"workers.formats.{name}" for name in ("gguf", "openvino", "safetensors")}

#: Headers are untrusted data: errors in them are raised as one of these.
DAMAGED = (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError, MemoryError)
#: No model has more bytes, parameters or tokens. Products in a memory plan must fit into 64 bits.
MOST = 1 << 53
MOST_OF = {"kv_bytes_per_token": 1 << 32, "hidden_size": 1 << 24, "vocabulary_size": 1 << 32}
#: Characters of an error's text.
LONGEST_TEXT = 300


def read_footprint(path: Path, *, readable: Sequence[str] = ()) -> Footprint:
    """The footprint of a folder or a GGUF file; `readable` are the preferred formats.

    Raises:
        SourceFailed: MISSING_FILE, UNSAFE_FILE, UNSUPPORTED_ARCHITECTURE, or CHECKSUM for a file that is cut off.
    """
    return footprint_of(LocalFiles(path), readable=readable)


def footprint_of(files: Files, *, readable: Sequence[str] = ()) -> Footprint:
    """The footprint of local or remote files. Raises: SourceFailed."""
    weights = weights_of(files, readable=readable)
    read: Callable[[Files, Weights], Footprint] = import_module(FORMATS[weights.format]).footprint
    try:
        found = read(files, weights)
        _require_sense(found)
    except DAMAGED as error:
        raise SourceFailed(
            FailureReason.CHECKSUM, f"{weights.files[0]} or what describes it is damaged: {shown(error)}."
        ) from error
    return found


def weights_of(files: Files, *, readable: Sequence[str] = ()) -> Weights:
    """The format of a model, and its weight files; an index names the parts. Raises: SourceFailed."""
    parts: list[str] = []
    if SAFETENSORS_INDEX in files.sizes and not files.is_file:
        named = read_json(files, SAFETENSORS_INDEX).get("weight_map")
        if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
            raise SourceFailed(FailureReason.CHECKSUM, f"{SAFETENSORS_INDEX} does not say which file has which tensor.")
        parts = sorted(set(named.values()))
    return detect(files.sizes, readable=readable, is_file=files.is_file, parts=parts)


def _require_sense(found: Footprint) -> None:
    """Raises: ValueError for an impossible number, with which memory could not be planned."""
    for name, value in vars(found).items():
        if not isinstance(value, str) and not 0 <= value <= MOST_OF.get(name, MOST):
            raise ValueError(f"its {name} would be {value}")


def shown(error: Exception) -> str:
    """A short text of an error in a damaged file."""
    text = repr(error)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."

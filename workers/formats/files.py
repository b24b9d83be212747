"""Access to the files of one model, local or remote: names, sizes, and pieces of their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.deployments.reasons import FailureReason, SourceFailed

#: Longest JSON file that is read. The index of a model in a thousand parts has some 10 MB.
MAX_JSON_BYTES = 32 << 20


class Files(Protocol):
    """Paths are relative to the model's folder, with `/`."""

    #: Bytes of each file.
    sizes: Mapping[str, int]
    #: The source names this one file, not a folder.
    is_file: bool

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """A piece of a file, shorter if the file ends; to its end by default. Raises: SourceFailed."""

    def path(self, name: str) -> Path | None:
        """Where the file lies, if it is on this machine."""


class LocalFiles:
    """The files of a folder, without subfolders; or one of them."""

    def __init__(self, path: Path) -> None:
        try:
            listed = sorted(path.iterdir()) if path.is_dir() else [path]
            # Reading a pipe or a device would block.
            self.sizes: Mapping[str, int] = {p.name: p.stat().st_size for p in listed if p.is_file()}
            path.stat()
        except FileNotFoundError as error:
            raise SourceFailed(FailureReason.MISSING_FILE, f"There is no {error.filename}.") from error
        except OSError as error:
            raise SourceFailed(
                FailureReason.MISSING_FILE, f"{error.filename} can't be read: {error.strerror}."
            ) from error
        self.is_file = not path.is_dir()
        self._folder = path.parent if self.is_file else path

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """Raises: SourceFailed."""
        try:
            with (self._folder / name).open("rb") as stream:
                stream.seek(start)
                return stream.read(length)
        except OSError as error:
            raise SourceFailed(FailureReason.MISSING_FILE, f"{name} can't be read: {error.strerror}.") from error

    def path(self, name: str) -> Path | None:
        """Always on this machine."""
        return self._folder / name


def read_json(files: Files, name: str) -> dict[str, Any]:
    """An object from a file. Raises: SourceFailed if it is missing or none."""
    if name not in files.sizes:
        raise SourceFailed(FailureReason.MISSING_FILE, f"There is no {name}.")
    if files.sizes[name] > MAX_JSON_BYTES:
        raise SourceFailed(
            FailureReason.CHECKSUM, f"{name} has {files.sizes[name]} bytes; no description has over {MAX_JSON_BYTES}."
        )
    try:
        value = json.loads(files.read(name, length=MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} must hold a JSON object.")
    return value


def cut_off(name: str, size: int, wanted: int) -> SourceFailed:
    """The error for a file that is shorter than its header says."""
    return SourceFailed(FailureReason.CHECKSUM, f"{name} is cut off: it has {size} of {wanted} bytes.")

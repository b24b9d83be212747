"""Access to the files of one model, local or remote: names, sizes, and pieces of their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gateway.deployments.reasons import FailureReason, SourceFailed

#: Longest JSON file that is read. The index of a model in a thousand parts has some 10 MB.
MAX_JSON_BYTES = 32 << 20
#: Of one folder; no model has more.
MAX_FILES = 20_000


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
    """The files of a folder and of its subfolders, but not of theirs; or one of them."""

    def __init__(self, path: Path) -> None:
        try:
            self.sizes: Mapping[str, int] = _listed(path)
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


class Remembered:
    """Files whose pieces are read once: what looks at a header after another need not fetch it again."""

    def __init__(self, files: Files) -> None:
        self.sizes = files.sizes
        self.is_file = files.is_file
        self._files = files
        self._pieces: dict[tuple[str, int, int], bytes] = {}

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """Raises: SourceFailed."""
        piece = name, start, length
        if piece not in self._pieces:
            self._pieces[piece] = self._files.read(name, start, length)
        return self._pieces[piece]

    def path(self, name: str) -> Path | None:
        """Where the file lies, if it is on this machine."""
        return self._files.path(name)


def read_text(files: Files, name: str) -> str:
    """A text from a file. Raises: SourceFailed if it is too long, or none."""
    try:
        return _described(files, name).decode()
    except UnicodeDecodeError as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is no text: {error}.") from error


def read_json(files: Files, name: str) -> dict[str, Any]:
    """An object from a file. Raises: SourceFailed if it is missing or none."""
    try:
        value = json.loads(_described(files, name))
    except (ValueError, RecursionError) as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} must hold a JSON object.")
    return value


def read_optional(files: Files, name: str) -> dict[str, Any]:
    """An object from a file, empty if there is none. Raises: SourceFailed."""
    return read_json(files, name) if name in files.sizes else {}


def _described(files: Files, name: str) -> bytes:
    """All of a file that describes a model. Raises: SourceFailed."""
    if name not in files.sizes:
        raise SourceFailed(FailureReason.MISSING_FILE, f"There is no {name}.")
    if files.sizes[name] > MAX_JSON_BYTES:
        raise SourceFailed(
            FailureReason.CHECKSUM, f"{name} has {files.sizes[name]} bytes; no description has over {MAX_JSON_BYTES}."
        )
    return files.read(name, length=MAX_JSON_BYTES)


def _listed(path: Path) -> dict[str, int]:
    """Bytes by name. Raises: OSError."""
    if not path.is_dir():
        return {path.name: path.stat().st_size} if path.is_file() else {}
    # Reading a pipe or a device would block.
    found = {file.name: file.stat().st_size for file in sorted(path.iterdir())[:MAX_FILES] if file.is_file()}
    for folder in sorted(path.iterdir()):
        # What can't be read there is not part of the model.
        with suppress(OSError):
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if len(found) < MAX_FILES and file.is_file():
                    found[f"{folder.name}/{file.name}"] = file.stat().st_size
    return found


def cut_off(name: str, size: int, wanted: int) -> SourceFailed:
    """The error for a file that is shorter than its header says."""
    return SourceFailed(FailureReason.CHECKSUM, f"{name} is cut off: it has {size} of {wanted} bytes.")

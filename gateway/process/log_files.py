"""Log files that processes append to: rotated when they are long, without their doing, and read as if in one piece.

A log's older text is in `NAME.log.1`, what is older still in `NAME.log.2`, and so on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from gateway.process.locks import lock_holder
from gateway.settings import Settings

log = logging.getLogger(__name__)

#: The logs of so many model workers are kept.
MOST_MODEL_LOGS = 100
#: How often it is looked whether a log is long, in seconds.
LOOK_S = 5.0
_BLOCK = 1 << 16


def log_folder(settings: Settings) -> Path:
    """Where logs lie."""
    return settings.data_dir / "logs"


def model_log(settings: Settings, replica_id: str) -> Path:
    """The log of a model worker."""
    return log_folder(settings) / f"model-{replica_id}.log"


def rotate_all(settings: Settings, pattern: str = "*.log") -> None:
    """Rotate those of the logs of these names that have become too long.

    What goes wrong with one of them is logged, and concerns no other.
    """
    for path in log_folder(settings).glob(pattern) if settings.log_file_bytes else ():
        try:
            if path.stat().st_size > settings.log_file_bytes:
                _rotate(path, settings.log_file_bytes, settings.log_files_kept)
        except OSError as error:
            log.warning("%s is not rotated: %s", path, error)


def tend_model_logs(settings: Settings) -> None:
    """Rotate the logs of model workers, and remove the oldest of those that have ended."""
    rotate_all(settings, model_log(settings, "*").name)
    found = sorted(log_folder(settings).glob(model_log(settings, "*").name), key=_written_at, reverse=True)
    for path in found[MOST_MODEL_LOGS:]:
        if lock_holder(settings.data_dir, path.stem.removeprefix("model-")) is None:
            for part in list(_parts(path)):
                part.unlink(missing_ok=True)


def _rotate(path: Path, max_bytes: int, kept: int) -> None:
    """Copy and cut it, since libraries in C write to it, too, which would go on in a file that was renamed.

    What is written between the last copied byte and the cut is lost: microseconds.
    """
    parts = [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]
    draft = path.with_name(f"{path.name}.new")
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # agents and `headrace up` look after the same folder
        if os.fstat(file.fileno()).st_size <= max_bytes:
            return
        try:
            with draft.open("wb") as copy:
                shutil.copyfileobj(file, copy)
                while rest := file.read():
                    copy.write(rest)
                os.ftruncate(file.fileno(), 0)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        for newer, older in zip(reversed(parts[:-1]), reversed(parts[1:]), strict=True):
            if newer.exists():
                newer.replace(older)
        if parts:
            draft.replace(parts[0])
        else:
            draft.unlink()


def last_lines(path: Path, count: int, *, about: str = "") -> list[str]:
    """The last lines of a log that contain `about`, from its older parts, too, if the newest has fewer."""
    if about:
        lines = chain.from_iterable(map(_lines, reversed([*_parts(path)])))
        return list(deque((line for line in lines if about in line), count))
    found: list[str] = []
    for part in _parts(path):
        found = _last_lines_of(part, count - len(found)) + found
        if len(found) >= count:
            break
    return found


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another agent has removed it
        return 0.0


def _parts(path: Path) -> Iterator[Path]:
    """The newest first."""
    yield path
    number = 1
    while (part := path.with_name(f"{path.name}.{number}")).exists():
        yield part
        number += 1


def _lines(path: Path) -> Iterator[str]:
    with path.open(errors="replace", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def _last_lines_of(path: Path, count: int) -> list[str]:
    """Read from the end, as much as is needed."""
    if count <= 0:
        return []
    with path.open("rb") as file:
        at, text = file.seek(0, os.SEEK_END), b""
        while at and text.count(b"\n") <= count:
            step = min(at, max(_BLOCK, len(text)))
            at = file.seek(at - step)
            text = file.read(step) + text
    return text.decode(errors="replace").removesuffix("\n").split("\n")[-count:] if text else []


class Follower:
    """What is new in a log since the last look, also over a rotation."""

    def __init__(self, path: Path) -> None:
        self._path, self._older = path, path.with_name(f"{path.name}.1")
        self._at, self._number = self._size(), self._older_number()
        self._rest = b""

    def new_lines(self) -> list[str]:
        """The whole lines that have come."""
        text, number = self._rest, self._older_number()
        if number != self._number or self._size() < self._at:  # what was not seen of the older part is at its end
            text += self._read(self._older)
            self._at, self._number = 0, number
        text += self._read(self._path)
        *lines, self._rest = text.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _older_number(self) -> int:
        """Each rotation makes a new file."""
        return self._older.stat().st_ino if self._older.exists() else 0

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(self._at)
                text = file.read()
        except FileNotFoundError:  # none is kept
            return b""
        self._at += len(text)
        return text

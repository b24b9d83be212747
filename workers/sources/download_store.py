"""The folders of one download: gathered apart while it is incomplete, then moved to its final folder at once.

{data_dir}/models/OWNER--NAME@COMMIT/manifest.json, files/...     complete
{data_dir}/models/.partial/OWNER--NAME@COMMIT/files/...           incomplete; `.part` files are not checked yet
{data_dir}/models/.partial/OWNER--NAME@COMMIT.lock                held by the process that fetches
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.process.file_locks import remove_lock, try_lock
from workers.sources.pump import POLL_S, wait
from workers.sources.remote_file import RemoteFile

#: Suffix of an incomplete file.
PART = ".part"
#: Partial downloads are removed when no fetch has continued them for this long.
KEPT_S = 7 * 24 * 3600.0


class DownloadStore:
    """The folders of one download."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        partial = folder.parent / ".partial"
        self.staging = partial / folder.name
        self._lock = partial / f"{folder.name}.lock"

    def complete(self) -> bool:
        """Whether all files are in the final folder, each as long as when it was checked."""
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text())
            return all((self.folder / "files" / f["name"]).stat().st_size == f["size"] for f in manifest["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def size(self) -> int:
        """Bytes of all files in the final folder."""
        return sum(path.stat().st_size for path in (self.folder / "files").rglob("*") if path.is_file())

    @property
    def used(self) -> bool:
        """Whether a fetch is running, or has left partial files."""
        return self.staging.exists() or self._lock.exists()

    def missing_bytes(self, files: Sequence[RemoteFile]) -> int:
        """The bytes still to be fetched, if the present ones are right."""
        here = 0
        for file in files:
            for path in (self.path(file), self.path(file, PART)):
                with suppress(OSError):
                    here += min(path.stat().st_size, file.size)
        return sum(file.size for file in files) - here

    def require_space(self, files: Sequence[RemoteFile]) -> None:
        """Raises: SourceFailed, NO_SPACE, if the disk has no room for what is still to be fetched."""
        missing, free = self.missing_bytes(files), _free_bytes(self.staging)
        if missing > free:
            raise SourceFailed(
                FailureReason.NO_SPACE,
                f"{missing / 1e9:.2f} GB are to be fetched to {self.folder.parent}, and {free / 1e9:.2f} GB are free "
                "there. Free disk space, or set HEADRACE_DATA_DIR to a larger disk.",
            )

    def path(self, file: RemoteFile, suffix: str = "") -> Path:
        """The path where a file is gathered; without the suffix PART it has been checked."""
        return self.staging / "files" / (file.name + suffix)

    @contextmanager
    def locked(self, is_cancelled: Callable[[], bool] | None) -> Iterator[bool]:
        """Lock the download. Waits for another fetch; without `is_cancelled` it yields False instead of waiting.

        Raises:
            SourceFailed: CANCELLED.
        """
        while (handle := self._take_lock()) is None:
            if is_cancelled is None:
                yield False
                return
            wait(POLL_S, is_cancelled)
        try:
            yield True
        finally:
            remove_lock(self._lock, handle)
            with suppress(OSError):
                self._lock.parent.rmdir()

    def open(self) -> None:
        """Make the folder to gather files in. An incomplete final folder is gathered again, and checked again."""
        if self.folder.exists():
            shutil.rmtree(self.staging, ignore_errors=True)
            self.folder.replace(self.staging)
            (self.staging / "manifest.json").unlink(missing_ok=True)
            for path in [path for path in self.staging.rglob("*") if path.is_file() and not path.name.endswith(PART)]:
                path.replace(path.with_name(path.name + PART))
        (self.staging / "files").mkdir(parents=True, exist_ok=True)

    def close(self, files: Sequence[RemoteFile], about: dict[str, Any]) -> None:
        """Move the gathered files to the final folder atomically. They survive a power cut."""
        manifest = self.staging / "manifest.json"
        with manifest.open("w") as stream:
            json.dump({**about, "files": [asdict(file) for file in files]}, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        for folder in {path.parent for path in self.staging.rglob("*")}:
            _sync(folder)
        self.staging.replace(self.folder)
        _sync(self.folder.parent)

    def discard(self) -> None:
        """Remove the gathered files."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def clean_up(self) -> None:
        """Remove old partial downloads of other fetches."""
        for staging in self._lock.parent.glob("*@*"):
            other = DownloadStore(self.folder.parent / staging.name)
            # Another process may be removing it, too.
            with suppress(OSError):
                if staging.suffix == ".lock" or other.folder == self.folder or other.idle_s() < KEPT_S:
                    continue
                with other.locked(None) as held:
                    if held:
                        other.discard()

    def idle_s(self) -> float:
        """Seconds since something was gathered."""
        times = [path.stat().st_mtime for path in [self.staging, *self.staging.rglob("*")]]
        return time.time() - max(times)

    def _take_lock(self) -> int | None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            return try_lock(self._lock)
        except FileNotFoundError:  # another process has just removed the empty folder
            return None


def _free_bytes(folder: Path) -> int:
    """Of the disk where a folder is, or will be."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

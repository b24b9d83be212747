"""Downloads on this machine that nothing uses any more. Knows which models are named, not who names them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.models.paths import hub_folder
from schemas.sources import HubRef
from workers.sources.download_store import DownloadStore


@dataclass(frozen=True)
class Unused:
    """A download, whole or in part."""

    folder: Path
    size_bytes: int

    @property
    def name(self) -> str:
        """As `OWNER/NAME@COMMIT`, and what tells it from others of the same commit."""
        return self.folder.name.replace("--", "/", 1)

    def remove(self) -> bool:
        """Returns whether it is gone: a fetch that has begun meanwhile keeps it."""
        with DownloadStore(self.folder).locked(None) as held:
            if held:
                for folder in _places(self.folder):
                    shutil.rmtree(folder, ignore_errors=True)
        return not any(folder.exists() for folder in _places(self.folder))


def unused(models_dir: Path, named: Collection[HubRef], *, older_than_s: float) -> list[Unused]:
    """Downloads of other commits than these, that no process has open and that were not written for that long.

    Whatever of a commit that is named stays, in whichever format: it may be wanted in another one again.
    """
    kept = tuple(hub_folder(models_dir, HubRef(ref.owner, ref.name, ref.revision)).name for ref in named)
    found = [Unused(folder, _size(folder)) for folder in _downloads(models_dir) if not folder.name.startswith(kept)]
    found = [one for one in found if _idle_s(one.folder) >= older_than_s]
    opened = _opened(models_dir) if found else set()
    return [one for one in found if not opened & set(_places(one.folder))]


def _downloads(models_dir: Path) -> list[Path]:
    """The folder of each, whether it is there or only in part. A link leads elsewhere, and is none."""
    whole = (path for path in models_dir.glob("*--*@*") if path.is_dir() and not path.is_symlink())
    partial = (path for path in (models_dir / ".partial").glob("*--*@*") if path.is_dir() and not path.is_symlink())
    return sorted({models_dir / path.name for path in (*whole, *partial)})


def _places(folder: Path) -> tuple[Path, Path]:
    return folder, DownloadStore(folder).staging


def _files(folder: Path) -> Iterator[Path]:
    return (path for place in _places(folder) for path in place.rglob("*") if path.is_file())


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in _files(folder))


def _idle_s(folder: Path) -> float:
    """Since something was written there."""
    times = [path.lstat().st_mtime for path in (*_places(folder), *_files(folder)) if path.exists()]
    return time.time() - max(times, default=0.0)


def _opened(models_dir: Path) -> set[Path]:
    """The folders of which a process of this machine has a file open, or in its memory."""
    found: set[Path] = set()
    for process in psutil.process_iter():
        try:
            paths = [one.path for one in process.open_files()]
            maps = Path(f"/proc/{process.pid}/maps").read_text(errors="replace").splitlines()
        except (OSError, psutil.Error):  # it has ended, or is of another user
            continue
        for path in {*paths, *(line.split(maxsplit=5)[-1] for line in maps)}:
            for root in (models_dir, models_dir / ".partial"):
                if path.startswith(f"{root.resolve()}/"):
                    found.add(root / Path(path).relative_to(root.resolve()).parts[0])
    return found

"""The contract of a source: the size of a model's files, whether they are on this machine, and how to fetch them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.deployments.reasons import SourceFailed
from gateway.models.footprint import Footprint
from workers.formats.files import Files

__all__ = ["Log", "OnProgress", "Source", "SourceFailed", "keep_quiet", "never", "no_progress"]

#: Called with the bytes that are here, and the total.
OnProgress = Callable[[int, int], None]
Log = Callable[[str], None]


def no_progress(done: int, total: int) -> None:
    """No-op callback."""


def never() -> bool:
    """The default of `is_cancelled`: never cancelled."""
    return False


def keep_quiet(line: str) -> None:
    """No-op callback."""


class Source(Protocol):
    """The source of one model's files. All methods block on disk or network."""

    def inspect(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Footprint:
        """The model's footprint, from the headers of its files. Downloads no weights.

        Raises:
            SourceFailed: CANCELLED, and as `fetch`. A hub that does not answer is asked three times in all.
        """

    def files(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Files:
        """The model's files, here or where they come from, for their headers. Raises: SourceFailed, as `inspect`."""

    def present(self) -> bool:
        """Whether all files are on this machine, and complete."""

    def fetch(self, *, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> Path:
        """Fetch missing files. Returns the path that engines load.

        Raises:
            SourceFailed: CANCELLED (nothing is left behind), SOURCE_UNREACHABLE (partial files are kept apart,
                and the next call continues there), CHECKSUM, NO_SPACE, MISSING_FILE, UNSAFE_FILE,
                UNSUPPORTED_ARCHITECTURE (nothing is left behind).
        """

    def discard(self) -> None:
        """Remove the partial files of an unfinished fetch; complete ones stay.

        Files that this object's last fetch has kept to continue with (SOURCE_UNREACHABLE) stay, so it may be
        called after any failure. Idempotent.
        """

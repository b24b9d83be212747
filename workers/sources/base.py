"""The contract of a source: what a model's files are, whether they are here, and how to get them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.deployments.reasons import SourceFailed
from gateway.models.footprint import Footprint

__all__ = ["Log", "OnProgress", "Source", "SourceFailed", "keep_quiet", "never", "no_progress"]

#: Bytes that are here, of how many.
OnProgress = Callable[[int, int], None]
Log = Callable[[str], None]


def no_progress(done: int, total: int) -> None:
    """Progress that nobody follows."""


def never() -> bool:
    """Cancelled by nobody."""
    return False


def keep_quiet(line: str) -> None:
    """A log that nobody reads."""


class Source(Protocol):
    """Where one model's files come from. Any method may take as long as its disk or network does."""

    def inspect(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Footprint:
        """What the files say of the model's size; reads headers only, downloads no weights.

        Raises:
            SourceFailed: CANCELLED, and as `fetch`. A hub that does not answer is asked three times in all.
        """

    def present(self) -> bool:
        """Whether all files are on this machine, and whole."""

    def fetch(self, *, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> Path:
        """Make the files be here, and give the path that engines load; at once if they are.

        Raises:
            SourceFailed: CANCELLED (nothing is left behind), SOURCE_UNREACHABLE (what has come is kept apart,
                and the next call goes on there), CHECKSUM, NO_SPACE, MISSING_FILE, UNSAFE_FILE,
                UNSUPPORTED_ARCHITECTURE (nothing is left behind).
        """

    def discard(self) -> None:
        """Remove what a fetch that did not end has left; whole files stay.

        What this object's last fetch has kept to go on with (SOURCE_UNREACHABLE) stays, so it may be called
        after any failure. Without anything left nothing happens.
        """

"""The source of engines that need no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.deployments.reasons import FailureReason
from gateway.models.footprint import Footprint
from workers.formats.files import Files
from workers.sources.base import Log, OnProgress, SourceFailed, keep_quiet, never


class NoWeights:
    """There are no files."""

    def inspect(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Footprint:
        """An empty one."""
        return Footprint()

    def files(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Files:
        """Raises: SourceFailed, always."""
        raise SourceFailed(FailureReason.MISSING_FILE, "A model without weights has no files.")

    def present(self) -> bool:
        """Always."""
        return True

    def fetch(self, *, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> Path:
        """An empty path."""
        on_progress(0, 0)
        return Path()

    def discard(self) -> None:
        """Nothing to remove."""

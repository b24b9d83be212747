"""A folder, or a GGUF file, of this machine as a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.deployments.reasons import FailureReason
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from schemas.sources import FolderRef
from workers.formats.files import LocalFiles
from workers.sources.base import Log, OnProgress, SourceFailed, keep_quiet, never
from workers.sources.model_footprint import footprint_of


class Folder:
    """Existing files: they are checked, never changed."""

    def __init__(self, path: Path, readable: Sequence[str] = ()) -> None:
        self._path = path
        self._readable = readable

    def inspect(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Footprint:
        """From the headers of the files. Raises: SourceFailed."""
        return footprint_of(self.files(), readable=self._readable)

    def files(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> LocalFiles:
        """They are here. Raises: SourceFailed."""
        return LocalFiles(self._path)

    def present(self) -> bool:
        """Whether the headers can be read, and the files are as long as they say."""
        try:
            self.inspect()
        except SourceFailed:
            return False
        return True

    def fetch(self, *, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> Path:
        """Check the files; there is nothing to get. Raises: SourceFailed."""
        footprint = self.inspect()
        if is_cancelled():
            raise SourceFailed(FailureReason.CANCELLED, "Cancelled while its files were checked.")
        on_progress(footprint.weights_bytes, footprint.weights_bytes)
        log(f"{self._path.name}: {footprint.weights_bytes} bytes of {footprint.format} are on this machine.")
        return self._path

    def discard(self) -> None:
        """Nothing to remove: a fetch changes nothing."""


def open_source(ref: FolderRef, settings: Settings, readable: Sequence[str]) -> Folder:
    """See `workers/sources/__init__.py`."""
    return Folder(Path(ref.path), readable)

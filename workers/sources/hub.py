"""A repository of the hub, at one commit, as a source. Fetches weights and descriptions, never code."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.deployments.reasons import FailureReason
from gateway.models.footprint import Footprint
from gateway.models.paths import hub_folder, hub_path
from gateway.settings import Settings
from schemas.sources import HubRef
from workers.formats.detect import needed
from workers.formats.files import Files, LocalFiles
from workers.sources.base import Log, OnProgress, SourceFailed, keep_quiet, never
from workers.sources.download_store import DownloadStore
from workers.sources.hub_client import HubClient
from workers.sources.model_footprint import footprint_of, read_footprint, weights_of
from workers.sources.pump import run
from workers.sources.remote_file import RemoteFile
from workers.sources.retry import Interrupted, Limits, retry
from workers.sources.transfer import Digest, Transfer

#: Progress is reported after this many bytes, and at the end.
REPORT_BYTES = 1 << 20
#: Retries when only headers are read.
MAX_LOOKS = 2
#: After these failures partial files are kept: they are right, and the next try continues there.
_KEPT = (FailureReason.SOURCE_UNREACHABLE, FailureReason.TIMED_OUT)
#: The disk, or this process' share of it, is full.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Hub:
    """Downloads go to `models_dir`, which processes of one machine may share."""

    def __init__(
        self, ref: HubRef, models_dir: Path, readable: Sequence[str] = (), *, limits: Limits | None = None
    ) -> None:
        self._ref = ref
        self._readable = readable
        self._limits = limits or Limits()
        #: When only headers are read, a caller waits for the result.
        self._few = replace(self._limits, max_retries=min(self._limits.max_retries, MAX_LOOKS))
        self._store = DownloadStore(hub_folder(models_dir, ref, readable))
        self._path = hub_path(models_dir, ref, readable)
        self._client = HubClient(ref, self._limits)
        #: The files of the repository, read once: a commit never changes.
        self._files: Sequence[RemoteFile] = []
        self._footprint: Footprint | None = None
        #: The last fetch has kept its partial files for the next one.
        self._resumable = False

    def inspect(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Footprint:
        """From the headers of the files, on this machine or by ranges from the hub. Raises: SourceFailed."""
        if self._store.complete():
            return read_footprint(self._path, readable=self._readable)
        return self._inspect_there(self._few, is_cancelled, log)

    def files(self, *, is_cancelled: Callable[[], bool] = never, log: Log = keep_quiet) -> Files:
        """Those on this machine, or ranges from the hub. Raises: SourceFailed."""
        return LocalFiles(self._path) if self._store.complete() else self._there(self._few, is_cancelled, log)

    def present(self) -> bool:
        """Whether all is downloaded, checked, and still there."""
        return self._store.complete()

    def fetch(self, *, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> Path:
        """Download what is missing. Raises: SourceFailed."""
        try:
            with self._store.locked(is_cancelled):
                self._store.clean_up()
                if self._store.complete():
                    on_progress(self._store.size, self._store.size)
                else:
                    self._fetch_or_clean_up(on_progress, is_cancelled, log)
        except OSError as error:
            reason = FailureReason.NO_SPACE if error.errno in _FULL else FailureReason.INTERNAL
            where = f" to {error.filename}" if error.filename else ""
            raise SourceFailed(reason, f"The download could not be written{where}: {error.strerror}.") from error
        log(f"{self._ref.repository} is here, at commit {self._ref.revision[:12]}.")
        return self._path

    def discard(self) -> None:
        """Remove partial files, unless another fetch is running, or the last one has kept them to continue with."""
        if self._resumable or not self._store.used:
            return
        with self._store.locked(None) as held:
            if held:
                self._store.discard()

    def _fetch_or_clean_up(self, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> None:
        try:
            self._fetch(on_progress, is_cancelled, log)
        except SourceFailed as error:
            self._resumable = error.reason in _KEPT
            if not self._resumable:
                self._store.discard()
            raise
        except OSError:
            self._store.discard()
            raise

    def _fetch(self, on_progress: OnProgress, is_cancelled: Callable[[], bool], log: Log) -> None:
        self._inspect_there(self._limits, is_cancelled, log)
        files = self._needed(self._limits, is_cancelled, log)
        self._store.open()
        self._store.require_space(files)
        total = sum(file.size for file in files)
        progress = _Progress(on_progress, total)
        transfer = Transfer(self._client, self._limits, is_cancelled, log)
        for file in files:
            target = self._store.path(file)
            if not target.exists():
                log(f"Fetching {file.name}, {file.size} bytes.")
                transfer.download(file, target, progress.of_file)
            progress.file_done(file.size)
        self._store.close(files, {"repository": self._ref.repository, "revision": self._ref.revision})

    def _inspect_there(self, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> Footprint:
        if self._footprint is None:
            there = self._there(limits, is_cancelled, log)
            self._footprint = run(lambda: footprint_of(there, readable=self._readable), is_cancelled)
        return self._footprint

    def _there(self, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> RemoteFiles:
        files = self._needed(limits, is_cancelled, log)
        return RemoteFiles(self._client, files, self._ref.file, limits, is_cancelled, log)

    def _needed(self, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> Sequence[RemoteFile]:
        """The files that make the model, small ones first. Raises: SourceFailed."""
        if not self._files:
            listed = retry(lambda: run(self._client.files, is_cancelled), limits, is_cancelled, log)
            names = relative_names(listed, self._ref)
            there = RemoteFiles(self._client, list(names.values()), self._ref.file, limits, is_cancelled, log)
            weights = run(lambda: weights_of(there, readable=self._readable), is_cancelled)
            wanted = needed(names, weights)
            self._files = sorted((names[name] for name in wanted), key=lambda file: (file.size, file.name))
        return self._files


class RemoteFiles:
    """Ranges of files in a repository; names are relative to the model's folder."""

    def __init__(
        self,
        client: HubClient,
        files: Sequence[RemoteFile],
        folder: str,
        limits: Limits,
        is_cancelled: Callable[[], bool],
        log: Log,
    ) -> None:
        self._client = client
        self._limits = limits
        self._is_cancelled = is_cancelled
        self._log = log
        self._files = {_below(file.name, folder): file for file in files}
        self.is_file = len(files) == 1 and files[0].name == folder
        self.sizes: Mapping[str, int] = {name: file.size for name, file in self._files.items()}

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """Raises: SourceFailed."""
        end = self.sizes[name] if length < 0 else min(start + length, self.sizes[name])
        if start >= end:
            return b""
        file = self._files[name]
        return retry(lambda: self._read(file, start, end), self._limits, self._is_cancelled, self._log)

    def path(self, name: str) -> None:
        """Not on this machine."""
        return

    def _read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """Raises: Interrupted, also for a complete file with a wrong checksum; SourceFailed."""
        read = bytearray()
        for chunk in self._client.stream(file.name, start, end):
            read += chunk
            # A server that ignores ranges sends the file to its end.
            if len(read) >= end - start:
                break
        piece = bytes(read[: end - start])
        if start == 0 and end == file.size:
            digest = Digest(file)
            digest.add(piece)
            if not digest.right:
                raise Interrupted(f"{file.name} came damaged: its checksum is not the hub's.")
        return piece


class _Progress:
    """Adds up the progress of all files, and reports it now and then."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._done = 0
        self._reported = 0
        on_progress(0, total)

    def of_file(self, here: int) -> None:
        """Note the present bytes of the file that is being fetched."""
        if abs(self._done + here - self._reported) >= REPORT_BYTES:
            self._tell(self._done + here)

    def file_done(self, size: int) -> None:
        """Note that a file is complete."""
        self._done += size
        self._tell(self._done)

    def _tell(self, done: int) -> None:
        self._reported = done
        self._on_progress(done, self._total)


def relative_names(files: Sequence[RemoteFile], ref: HubRef) -> dict[str, RemoteFile]:
    """The files that the source names, by their path in the model's folder. Raises: SourceFailed if there are none."""
    if not ref.file:
        return {file.name: file for file in files}
    names = {_below(file.name, ref.file): file for file in files if (file.name + "/").startswith(ref.file + "/")}
    if not names:
        raise SourceFailed(
            FailureReason.MISSING_FILE, f"{ref.repository} has no file or folder {ref.file} at {ref.revision[:12]}."
        )
    return names


def _below(name: str, folder: str) -> str:
    """A path relative to a folder of the repository, or the last part of it if it is that file itself."""
    if not folder:
        return name
    return name.rpartition("/")[2] if name == folder else name.removeprefix(folder + "/")


def open_source(ref: HubRef, settings: Settings, readable: Sequence[str]) -> Hub:
    """See `workers/sources/__init__.py`."""
    return Hub(ref, settings.data_dir / "models", readable)

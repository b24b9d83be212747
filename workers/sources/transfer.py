"""Downloads one file of a repository, from where an earlier try ended, and checks it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.sources.base import Log
from workers.sources.download_store import PART
from workers.sources.hub_client import HubClient
from workers.sources.pump import check, pumped
from workers.sources.remote_file import RemoteFile
from workers.sources.retry import Interrupted, Limits, Tries

#: Bytes read at once from a partial file.
READ_BYTES = 1 << 20


class Transfer:
    """Downloads files with one client, limits, cancellation and log."""

    def __init__(self, client: HubClient, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> None:
        self._client = client
        self._limits = limits
        self._is_cancelled = is_cancelled
        self._log = log

    def download(self, file: RemoteFile, target: Path, on_here: Callable[[int], None]) -> None:
        """Download a file to `target`. `on_here` is called with the number of its present bytes.

        Raises:
            SourceFailed: if the source is unreachable the part stays for the next try; if it is damaged it is removed.
            OSError: it can't be written.
        """
        part = target.with_name(target.name + PART)
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        whole = self._filled(file, part, on_here)
        if not whole and resumed:
            self._log(f"{file.name}: what an earlier try has left is damaged; beginning anew.")
            whole = self._filled(file, part, on_here)
        if not whole:
            raise SourceFailed(FailureReason.CHECKSUM, f"{file.name} came damaged: its checksum is not the hub's.")
        part.replace(target)

    def _filled(self, file: RemoteFile, part: Path, on_here: Callable[[int], None]) -> bool:
        """Complete the part, and sync it. Returns False, and removes the part, if its checksum is wrong."""
        with part.open("ab+") as stream:
            digest = Digest(file)
            on_here(0)
            stream.seek(0)
            while piece := stream.read(READ_BYTES):
                check(self._is_cancelled)
                digest.add(piece)
                on_here(digest.size)
            self._append(file, stream, digest, on_here)
            stream.flush()
            os.fsync(stream.fileno())
        if digest.right:
            return True
        part.unlink()
        return False

    def _append(self, file: RemoteFile, stream: BinaryIO, digest: Digest, on_here: Callable[[int], None]) -> None:
        """Fetch the missing bytes, with retries. Raises: SourceFailed."""
        tries = Tries(self._limits, self._is_cancelled, self._log)
        while digest.size < file.size:
            before = digest.size
            try:
                with closing(pumped(self._client.stream(file.name, before), self._is_cancelled)) as chunks:
                    for chunk in chunks:
                        stream.write(chunk)
                        digest.add(chunk)
                        on_here(digest.size)
                        # An endless response would fill the disk.
                        if digest.size > file.size:
                            return
                if digest.size < file.size:
                    raise Interrupted(f"{file.name}: the answer ended early.")
            except Interrupted as error:
                stream.flush()
                if digest.size == file.size:
                    return
                where = f", from byte {digest.size} of {file.size}"
                tries.after(error, brought=digest.size - before, where=where)


class Digest:
    """The checksum of a file as the hub computes it, updated while bytes arrive."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self.size = 0
        # Git names a blob by its length and content: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        self._hash = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode())

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._hash.update(piece)
        self.size += len(piece)

    @property
    def right(self) -> bool:
        """Whether the bytes so far are the complete file."""
        return self.size == self._file.size and self._hash.hexdigest() == (self._file.sha256 or self._file.git_sha1)

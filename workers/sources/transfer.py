"""Brings one file of a repository to its place, from where an earlier try ended, and checks it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.sources.base import Log
from workers.sources.hub_client import HubClient, RemoteFile
from workers.sources.pump import check, pumped
from workers.sources.retry import Interrupted, Limits, Tries

#: A file that is not whole has this at the end of its name.
PART = ".part"
#: Bytes that are read at once of what is here already.
READ_BYTES = 1 << 20


class Transfer:
    """How files are fetched: from whom, and who hears of it."""

    def __init__(self, client: HubClient, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> None:
        self._client = client
        self._limits = limits
        self._is_cancelled = is_cancelled
        self._log = log

    def download(self, file: RemoteFile, target: Path, on_here: Callable[[int], None]) -> None:
        """Make `target` be the whole file. `on_here` hears how many of its bytes are here.

        Raises:
            SourceFailed: its part stays for the next try if the source is unreachable; it is removed if it is damaged.
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
        """Whether the part is the whole file now, safely on the disk; it is removed if its checksum is wrong."""
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
        """Fetch what is missing, in as many tries as it takes. Raises: SourceFailed."""
        tries = Tries(self._limits, self._is_cancelled, self._log)
        while digest.size < file.size:
            before = digest.size
            try:
                with closing(pumped(self._client.stream(file.name, before), self._is_cancelled)) as chunks:
                    for chunk in chunks:
                        stream.write(chunk)
                        digest.add(chunk)
                        on_here(digest.size)
                        # A server that never ends would fill the disk.
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
    """The checksum of a file as the hub computes it, made while its bytes come."""

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
        """Whether the bytes so far are the whole file."""
        return self.size == self._file.size and self._hash.hexdigest() == (self._file.sha256 or self._file.git_sha1)

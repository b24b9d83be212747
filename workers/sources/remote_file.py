"""A file of a repository on a hub. Knows no client of it, which not every installation has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, and its checksum as the hub has it."""

    name: str
    size: int
    #: SHA-256 of the content, for files in Git LFS; else empty, and `git_sha1` is the hash of the git blob.
    sha256: str = ""
    git_sha1: str = ""

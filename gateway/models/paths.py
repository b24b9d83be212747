"""Where the files of a model are on this machine: in an installed package, or in the folder of downloads."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from schemas.sources import HubRef, PackageRef


def package_path(ref: PackageRef) -> Path | None:
    """The path of a file in an installed package, whether it exists or not; None if the package is not installed.

    Does not import the package.
    """
    try:
        spec = importlib.util.find_spec(ref.package)
    except ValueError:  # a module that is no file, such as __main__
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / ref.file


def hub_folder(models_dir: Path, ref: HubRef, formats: Sequence[str] = ()) -> Path:
    """The folder of a download from the hub. It exists only when all files are complete and checked.

    It differs by `formats`, since engines that read other formats take other files of the same repository.
    """
    part = f"-{hashlib.sha256(ref.file.encode()).hexdigest()[:12]}" if ref.file else ""
    return models_dir / "-".join([f"{ref.owner}--{ref.name}@{ref.revision}{part}", *formats])


def hub_path(models_dir: Path, ref: HubRef, formats: Sequence[str] = ()) -> Path:
    """What engines load: a file or folder in `files`, beside a `manifest.json` that has the checksum of each file."""
    return hub_folder(models_dir, ref, formats) / "files" / ref.file

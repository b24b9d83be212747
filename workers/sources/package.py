"""A folder or file inside an installed Python package as a source. Does not import the package."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.deployments.reasons import FailureReason
from gateway.models.paths import package_path
from gateway.settings import Settings
from schemas.sources import PackageRef
from workers.sources.base import SourceFailed
from workers.sources.folder import Folder


def open_source(ref: PackageRef, settings: Settings, readable: Sequence[str]) -> Folder:
    """See `workers/sources/__init__.py`. Raises: SourceFailed if the package is not installed."""
    path = package_path(ref)
    if path is None:
        raise SourceFailed(
            FailureReason.MISSING_FILE,
            f"The Python package {ref.package} is not installed where this node runs: "
            f"pip install --no-deps {ref.package.replace('_', '-')}.",
        )
    return Folder(path, readable)

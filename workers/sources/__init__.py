"""Sources of models by kind. A new kind: its notation in `schemas/sources.py`, one file here, one line below."""

from __future__ import annotations

from importlib import import_module

from gateway.deployments.reasons import FailureReason
from gateway.models.engines import formats_of, is_weightless
from gateway.models.entry import Model
from gateway.settings import Settings
from schemas.sources import NOTATION, FolderRef, HubRef, PackageRef, parse_source
from workers.sources.base import Source, SourceFailed

#: The module of each kind of reference, imported when needed; it has `open_source(ref, settings, readable)`.
KINDS = {
    FolderRef: "workers.sources.folder",
    PackageRef: "workers.sources.package",
    HubRef: "workers.sources.hub",
}


def source_of(model: Model, settings: Settings) -> Source:
    """The source of a local model's files; downloads are kept in `settings.data_dir`.

    Raises:
        SourceFailed: MISSING_FILE if the model has no source, or one that can't be read.
    """
    try:
        ref = parse_source(model.source)
    except ValueError as error:
        raise SourceFailed(FailureReason.MISSING_FILE, f"The source {model.source!r} is not right: {error}.") from error
    if ref is None:
        if is_weightless(model.engine):
            from workers.sources.no_weights import NoWeights

            return NoWeights()
        raise SourceFailed(
            FailureReason.MISSING_FILE, f"{model.id} has no source. Set its `source` in headrace.toml to {NOTATION}."
        )
    opened: Source = import_module(KINDS[type(ref)]).open_source(ref, settings, formats_of(model.engine))
    return opened

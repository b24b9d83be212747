"""Removes downloads of models that were removed with their files, on the machine of one agent."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable

from gateway.models.catalog import Catalog
from gateway.models.catalog_store import Download
from gateway.models.engines import formats_of
from gateway.models.paths import hub_folder
from gateway.settings import Settings
from gateway.store.loop import guarded
from schemas.sources import HubRef, parse_source

log = logging.getLogger("headrace.agent")

#: Seconds between two looks.
LOOK_S = 5.0


class Discards:
    """Looks now and then. A download that a model of the catalog still uses stays."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._look_at = 0.0

    def step(self, running: Iterable[str]) -> None:
        """Remove what is not wanted; nothing while a model that has left the catalog is `running`. Raises: NOT_NOW."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        models = {model.id: model for model in self._catalog}
        if not set(running) <= set(models):
            return
        used = {Download(model.source, model.engine) for model in models.values()}
        for one in set(self._catalog.sources.require_store().discarded()) - used:
            with guarded(f"the download {one.source}"):
                self._remove(one)

    def _remove(self, one: Download) -> None:
        ref = parse_source(one.source)
        if not isinstance(ref, HubRef):
            return
        folder = hub_folder(self._settings.data_dir / "models", ref, formats_of(one.engine))
        if folder.exists():
            shutil.rmtree(folder)
            log.info("removed %s", folder)

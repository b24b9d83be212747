"""The models that this gateway knows, by id. It follows `headrace.toml` while the process runs.

A change is noticed by the file's size and times, and applied as a whole. A file with a mistake is refused, and the
models stay as they were. A `Catalog` stays current for as long as it is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from gateway.access.api_keys import KeyRecord
from gateway.errors import MAX_NAME, InvalidSetting, ModelNotFound, bounded
from gateway.models.catalog_file import CatalogFile, Entries
from gateway.models.entry import LOCAL, Model, Pricing, Provider, Range
from gateway.settings import Settings

__all__ = ["LOCAL", "Catalog", "Model", "Pricing", "Provider", "Range", "load_catalog"]

log = logging.getLogger(__name__)

#: Least time between two checks of the file.
LOOK_S = 0.5


class Catalog:
    """Look-up by id. With a `file` it is read again when it has changed."""

    def __init__(
        self,
        models: Iterable[Model],
        providers: Iterable[Provider] = (),
        *,
        file: CatalogFile | None = None,
        problem: str = "",
    ) -> None:
        self._entries = Entries({m.id: m for m in models}, {p.name: p for p in providers})
        self._file = file
        self._looked_at = time.monotonic()
        #: When the entries were read, in seconds since the epoch.
        self.read_at = int(time.time())
        self._problem = problem

    def __iter__(self) -> Iterator[Model]:
        return iter(self._current().models.values())

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Providers by name."""
        return self._current().providers

    @property
    def problem(self) -> str:
        """Why the present file was refused; empty if it was not."""
        self._current()
        return self._problem

    def get(self, model_id: str) -> Model:
        """Raises: ModelNotFound, naming the ids that exist."""
        models = self._current().models
        try:
            return models[model_id]
        except KeyError:
            raise _not_found(model_id, models) from None

    def get_for(self, key: KeyRecord, model_id: str) -> Model:
        """A model that a client has named.

        Raises:
            ModelNotFound: naming the ids that the key may use.
            PermissionDenied: the key may not use this one.
        """
        models = self._current().models
        if model_id not in models:
            raise _not_found(model_id, filter(key.may_use, models))
        key.require_model(model_id)
        return models[model_id]

    def get_visible(self, key: KeyRecord, model_id: str) -> Model:
        """A model that a client asks about; one that its key may not use is not there. Raises: ModelNotFound."""
        models = self._current().models
        if model_id not in models or not key.may_use(model_id):
            raise _not_found(model_id, filter(key.may_use, models))
        return models[model_id]

    def seen_by(self, key: KeyRecord) -> list[Model]:
        """The models that a key may use."""
        return [model for model in self if key.may_use(model.id)]

    def latest(self, model: Model) -> Model:
        """The present entry of a model; the given one if the catalog has none any more."""
        return self._current().models.get(model.id, model)

    def _current(self) -> Entries:
        now = time.monotonic()
        if self._file is not None and now > self._looked_at + LOOK_S:
            self._looked_at = now
            if self._file.changed():
                self._reload(self._file)
        return self._entries

    def _reload(self, file: CatalogFile) -> None:
        try:
            self._entries, self._problem = file.read(), ""
        except InvalidSetting as error:
            self._problem = error.message
            log.error("the models stay as they were: %s", error.message)
        else:
            self.read_at = int(time.time())
            log.info("read %s: %d models", file.path, len(self._entries.models))


def _not_found(model_id: str, known: Iterable[str]) -> ModelNotFound:
    return ModelNotFound(
        f"There is no model {bounded(model_id, MAX_NAME)!r}. Known models: {', '.join(sorted(known))}."
    )


def load_catalog(settings: Settings, *, strict: bool = False) -> Catalog:
    """The models of this gateway.

    If the file is broken, the last valid copy is used, unless `strict`.

    Raises:
        InvalidSetting: the file is broken; the text names line, field and what is allowed.
    """
    file = CatalogFile(settings)
    problem = ""
    try:
        entries = file.read()
    except InvalidSetting as error:
        if strict or not file.has_last_good():
            raise
        entries, problem = file.read_last_good(), error.message
        log.error("the last models that were right stay in force: %s", problem)
    return Catalog(entries.models.values(), entries.providers.values(), file=file, problem=problem)

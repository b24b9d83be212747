"""The models that this gateway knows, by id. A `Catalog` follows its sources for as long as it is kept.

A change is noticed within half a second, and at once by whoever asks for a model that is not there. A table with a
mistake leaves its model as it was, and changes no other one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import redis

from gateway.access.api_keys import KeyRecord
from gateway.errors import MAX_NAME, Conflict, ModelNotFound, bounded
from gateway.models.catalog_sources import CatalogSources
from gateway.models.entry import LOCAL, Model, Pricing, Provider, Range
from gateway.models.tables import Entries, Problem
from gateway.settings import Settings

__all__ = ["LOCAL", "Catalog", "Model", "Pricing", "Provider", "Range", "load_catalog"]

log = logging.getLogger(__name__)

#: Least time between two checks of the sources.
LOOK_S = 0.5


class Catalog:
    """Look-up by id. Without `sources` its entries never change."""

    def __init__(
        self, models: Iterable[Model], providers: Iterable[Provider] = (), *, sources: CatalogSources | None = None
    ) -> None:
        self._entries = Entries({m.id: m for m in models}, {p.name: p for p in providers})
        self._sources = sources
        #: When the entries were read, in seconds since the epoch.
        self.read_at = int(time.time())
        if sources:
            self._entries = sources.first()
        self.refresh()

    def __iter__(self) -> Iterator[Model]:
        return iter(self._current().models.values())

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Providers by name."""
        return self._current().providers

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong in the sources."""
        return self._current().problems

    @property
    def sources(self) -> CatalogSources:
        """What it follows."""
        assert self._sources, "a catalog of given entries follows nothing"
        return self._sources

    def get(self, model_id: str) -> Model:
        """Raises: ModelNotFound, naming the ids that exist."""
        return self._find(model_id, lambda _: True)

    def get_for(self, key: KeyRecord, model_id: str) -> Model:
        """A model that a client has named.

        Raises:
            ModelNotFound: naming the ids that the key may use.
            PermissionDenied: the key may not use this one.
        """
        model = self._find(model_id, key.may_use)
        key.require_model(model_id)
        return model

    def get_visible(self, key: KeyRecord, model_id: str) -> Model:
        """A model that a client asks about; one that its key may not use is not there. Raises: ModelNotFound."""
        model = self._find(model_id, key.may_use)
        if not key.may_use(model_id):
            raise self._not_found(model_id, key.may_use)
        return model

    def seen_by(self, key: KeyRecord) -> list[Model]:
        """The models that a key may use."""
        return [model for model in self if key.may_use(model.id)]

    def latest(self, model: Model) -> Model:
        """The present entry of a model; the given one if the catalog has none any more."""
        return self._current().models.get(model.id, model)

    def require_right(self, model_id: str) -> None:
        """Raises: Conflict if a model's table has a mistake, so that the model is not as somebody wants it."""
        for problem in self.problems:
            if problem.is_about(model_id):
                raise Conflict(f"The table of model {model_id!r} is not right. {problem}", reason="catalog_mistake")

    def require_new(self, model_id: str) -> None:
        """Raises: Conflict if there is a model of that id."""
        self.refresh()
        if model_id in self._entries.models:
            origin = self.sources.origin(model_id)
            raise Conflict(
                f"There is a model {model_id!r}, from {origin}. Choose another id, or change or remove that one.",
                reason="model_exists",
            )

    def refresh(self) -> None:
        """Read what has changed since the last check."""
        self._looked_at = time.monotonic()
        if self._sources and self._sources.look():
            before = set(self._entries.problems)
            self._entries = self._sources.entries(self._entries)
            self.read_at = int(time.time())
            log.info("read the catalog: %d models", len(self._entries.models))
            for problem in self._entries.problems:
                if problem not in before:
                    log.error("a mistake in the catalog; what it is about stays as it was: %s", problem)

    def publish(self) -> None:
        """Let the other machines have this machine's file. Raises: NOT_NOW."""
        self.sources.publish(self.problems)

    def _current(self) -> Entries:
        if time.monotonic() > self._looked_at + LOOK_S:
            self.refresh()
        return self._entries

    def _find(self, model_id: str, visible: Callable[[str], bool]) -> Model:
        if model_id not in self._current().models:
            self.refresh()
        try:
            return self._entries.models[model_id]
        except KeyError:
            raise self._not_found(model_id, visible) from None

    def _not_found(self, model_id: str, visible: Callable[[str], bool]) -> ModelNotFound:
        known = ", ".join(sorted(filter(visible, self._entries.models)))
        name = bounded(model_id, MAX_NAME)
        problems = self._entries.problems if visible(model_id) else ()
        mine = [f" {one}" for one in problems if one.is_about(model_id)]
        whole = [f" {one.where} can't be read." for one in problems if not one.path]
        why = next(iter([*mine, *whole]), "")
        return ModelNotFound(f"There is no model {name!r}.{why} Known models: {known}.")


def load_catalog(settings: Settings, client: redis.Redis | None = None) -> Catalog:
    """The models of this gateway; without a `client` those that this machine's files know.

    Raises:
        InvalidSetting: a variable is no JSON.
    """
    return Catalog((), sources=CatalogSources(settings, client))

"""What a catalog is made of: files, variables and Redis, and whether they have changed since they were read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from gateway.errors import InvalidSetting, Unavailable
from gateway.models.catalog_file import CatalogFile, defaults, variables
from gateway.models.catalog_store import Added, CatalogStore, Published
from gateway.models.entry import Model
from gateway.models.tables import Entries, Problem, Source, build
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW

#: Redis is not asked again for so long after it has not answered.
AWAY_S = 2.0


class CatalogSources:
    """In this order, each over the one before: the default models, what was added by the API, what a machine with a
    file has published, this machine's file, and its variables. Without a `client` those of this machine alone.
    """

    def __init__(self, settings: Settings, client: redis.Redis | None) -> None:
        self._node = settings.node
        self._models_dir = settings.data_dir / "models"
        self._file = CatalogFile(settings)
        self._defaults = defaults()
        self._variables = variables(settings)
        self.store = CatalogStore(client) if client else None
        self._own = Source(str(self._file.path), {})
        #: Why the file can't be read at all.
        self._unreadable: list[Problem] = []
        self._version: str | None = None
        self._away_until = 0.0
        self._added: Mapping[str, Added] = {}
        self._published = Published()
        self._elsewhere: tuple[Sequence[Source], Sequence[Problem]] = ((), ())
        self._told: Published | None = None

    def first(self) -> Entries:
        """Entries to begin with: those of the last file that was right."""
        self._own = self._file.read_copy() or self._own
        return build([self._defaults, self._own, *self._variables], models_dir=self._models_dir)

    def look(self) -> bool:
        """Read what has changed; while Redis does not answer, what it said stays. Returns whether anything has."""
        changed = self._file.changed()
        if changed:
            self._read_file()
        return self._read_redis() or changed

    def entries(self, before: Entries) -> Entries:
        """All of them, merged; a wrong one stays as it was `before`."""
        found = build(self._all(), models_dir=self._models_dir, before=before)
        problems = [*self._unreadable, *found.problems, *self._elsewhere[1]]
        if not any(problem.source == self._own.name for problem in problems):
            self._file.keep(self._own)
        return replace(found, problems=tuple(dict.fromkeys(problems)))

    def publish(self, problems: Sequence[Problem]) -> None:
        """Publish this machine's file and variables, once after each change of them. Raises: NOT_NOW.

        A machine that has neither leaves what another one has published.
        """
        here = [source for source in (self._own, *self._variables) if any(source.tables.values())]
        names = {self._own.name, *(source.name for source in self._variables)}
        mistakes = [problem for problem in problems if problem.source in names]
        found = self._published.updated(self._node, here, mistakes)
        if self.store and found not in (self._told, self._published) and (here or self._published.node == self._node):
            self.store.publish(found)
        self._told = found

    def added(self, model_id: str) -> Added | None:
        """What was added under that id."""
        return self._added.get(model_id)

    def origin(self, model_id: str) -> str:
        """The last source that says something of a model, for people."""
        for source in (*reversed(self._variables), self._own, *reversed(self._elsewhere[0])):
            if model_id in source.tables.get("models", {}):
                return source.name
        return "the API" if model_id in self._added else self._defaults.name

    def proposed(self, model_id: str, table: Mapping[str, Any]) -> Model | Problem:
        """The model that a table would make next to all that is there, or what would be wrong with it."""
        if not table.get("enabled", True):
            return Problem("", "what was added is taken out by removing it", ("models", model_id, "enabled"))
        asked = Source("", {"models": {model_id: {"enabled": True, **table}}})
        found = build([*self._all(), asked], models_dir=self._models_dir)
        wrong = next((problem for problem in found.problems if problem.is_about(model_id)), None)
        return wrong or found.models[model_id]

    def named(self) -> set[str]:
        """The `source` of each model of each table, also of those that are disabled, or overlaid by another one.

        Raises: NOT_NOW; Unavailable if not all tables are as Redis has them now.
        """
        if self.require_store().version() != self._version:
            raise Unavailable("The catalog has just changed, or could not be read. Try again.")
        tables = (table for source in self._all() for table in source.tables.get("models", {}).values())
        return {str(table["source"]) for table in tables if isinstance(table, Mapping) and table.get("source")}

    def require_store(self) -> CatalogStore:
        """The part that can be changed. Raises: Unavailable without a Redis."""
        if self.store is None:
            raise Unavailable("The catalog of files alone can't be changed here; change headrace.toml.")
        return self.store

    def _all(self) -> list[Source]:
        added = [Source(f"added model {name}", {"models": {name: one.table}}) for name, one in self._added.items()]
        return [self._defaults, *added, *self._elsewhere[0], self._own, *self._variables]

    def _read_file(self) -> None:
        try:
            self._own, self._unreadable = self._file.read(), []
        except InvalidSetting as error:
            self._unreadable = [Problem(self._own.name, error.message)]

    def _read_redis(self) -> bool:
        if self.store is None or time.monotonic() < self._away_until:
            return False
        try:
            version = self.store.version()
            if version == self._version:
                return False
            added, (published, sources, problems) = self.store.added(), self.store.published()
        except NOT_NOW:
            self._away_until = time.monotonic() + AWAY_S
            return False
        self._version, self._added, self._published = version, added, published
        # What this machine has published is its own file as it was.
        self._elsewhere = ((), ()) if published.node == self._node else (sources, problems)
        return True

"""The catalog in Redis, which every machine has: models that were added by the API, and the tables of a machine's file.

Each change raises a counter, by which the others notice it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

import redis

from gateway.errors import Conflict, Unreadable
from gateway.models.tables import KINDS, Problem, Source
from gateway.store import keys
from gateway.store.codec import build, dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, readable


@dataclass(frozen=True)
class Added:
    """A model that was added by the API: its table, and what was found out about its files."""

    table: Mapping[str, Any]
    #: See `gateway/models/facts.py`.
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: What it was asked for as, such as `Qwen/Qwen3-0.6B@main`.
    requested: str = ""
    #: Milliseconds since the epoch, and the id of the API key.
    added_at: int = 0
    added_by: str = ""


@dataclass(frozen=True)
class Download:
    """Files on the machines that nobody wants any more: of that source, as that engine needs them."""

    source: str
    engine: str

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Download:
        """Those of a model."""
        return cls(str(table.get("source", "")), str(table.get("engine", "")))


@dataclass(frozen=True)
class Published:
    """What the file and the variables of one machine say."""

    node: str = ""
    sources: Sequence[Mapping[str, Any]] = ()
    problems: Sequence[Mapping[str, Any]] = ()

    def updated(self, node: str, sources: Sequence[Source], problems: Sequence[Problem]) -> Published:
        """What to publish after this. A table with a mistake stays as it was here, or is left out."""
        wrong = {(one.source, *one.path[:2]) for one in problems}
        before = {one["name"]: one["tables"] for one in self.sources} if self.node == node else {}
        tables: list[Mapping[str, Any]] = []
        for source in sources:
            kept: dict[str, dict[str, Any]] = {}
            for kind in KINDS:
                for name, table in _of_kind(source.tables, kind).items():
                    if (source.name, kind, name) in wrong:
                        table = _of_kind(before.get(source.name), kind).get(name)
                    if table is not None:
                        kept.setdefault(kind, {})[name] = table
            tables.append({"name": source.name, "tables": kept})
        return Published(node, tables, [{**asdict(one), "path": list(one.path)} for one in problems])

    def read(self) -> tuple[list[Source], list[Problem]]:
        """Its tables and what is wrong there, named after the machine. Raises: Unreadable."""
        try:
            sources = [Source(f"{one['name']} of {self.node}", one["tables"]) for one in self.sources]
        except (KeyError, TypeError) as error:
            raise Unreadable(f"It has no tables: {error!r}.") from error
        problems = [build(Problem, one) for one in self.problems]
        return sources, [replace(one, source=f"{one.source} of {self.node}") for one in problems]


def _of_kind(tables: Any, kind: str) -> Mapping[str, Any]:
    """The tables of models, or of providers."""
    found = tables.get(kind) if isinstance(tables, Mapping) else None
    return found if isinstance(found, Mapping) else {}


class CatalogStore:
    """Reads and writes it."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def version(self) -> str:
        """The counter; empty if nothing was ever written. Raises: NOT_NOW."""
        return str(self._redis.get(keys.CATALOG_VERSION) or "")

    def added(self) -> dict[str, Added]:
        """What was added, by id. Raises: NOT_NOW."""
        (raw,) = pipeline(self._redis, [("HGETALL", keys.CATALOG)])
        named = [(name, value) for name, value in sorted(raw.items())]
        return {
            name: found
            for name, value in named
            for _, found in readable([(f"The catalog's model {name}", value)], partial(load_as, Added))
        }

    def published(self) -> tuple[Published, list[Source], list[Problem]]:
        """What a machine has published, and the same as it is read. Raises: NOT_NOW."""
        with leaving_out("The catalog that a machine has published"):
            if raw := cast("str | None", self._redis.get(keys.CATALOG_FILE)):
                found = load_as(Published, raw)
                return (found, *found.read())
        return Published(), [], []

    def publish(self, found: Published) -> None:
        """Replace what was published. Raises: NOT_NOW."""
        self._change([("SET", keys.CATALOG_FILE, dumps(asdict(found)))])

    def add(self, model_id: str, model: Added) -> None:
        """Add a model. Raises: Conflict if there is one of that id; NOT_NOW."""
        if not self._change([("HSETNX", keys.CATALOG, model_id, dumps(asdict(model)))]):
            raise Conflict(
                f"Model {model_id!r} was added before. Remove it first, or change it.", reason="model_exists"
            )

    def change(self, model_id: str, model: Added) -> None:
        """Replace what is said of a model. Raises: NOT_NOW."""
        self._change([("HSET", keys.CATALOG, model_id, dumps(asdict(model)))])

    def remove(self, model_id: str, *, discard: Download | None = None) -> bool:
        """Remove a model; machines may `discard` those files. Returns whether it was there. Raises: NOT_NOW."""
        told = [("SADD", keys.DISCARDED, dumps(asdict(discard)))] if discard else []
        return bool(self._change([("HDEL", keys.CATALOG, model_id), *told]))

    def discarded(self) -> list[Download]:
        """What machines may remove. Raises: NOT_NOW."""
        (raw,) = pipeline(self._redis, [("SMEMBERS", keys.DISCARDED)])
        named = [("A download that nobody wants", value) for value in sorted(raw)]
        return [found for _, found in readable(named, partial(load_as, Download))]

    def want(self, download: Download) -> None:
        """Keep its files again. Raises: NOT_NOW."""
        self._redis.srem(keys.DISCARDED, dumps(asdict(download)))

    def _change(self, commands: list[tuple[Any, ...]]) -> Any:
        """Run commands and raise the counter, together. Returns the reply to the first."""
        pipe = self._redis.pipeline(transaction=True)
        for command in commands:
            pipe.execute_command(*command)
        pipe.incr(keys.CATALOG_VERSION)
        return pipe.execute()[0]

"""Tables of models and providers, as TOML and JSON have them: merged, checked, and made into entries.

A table changes only the fields that it has of what earlier sources say. One that is wrong does not stop the others.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from gateway.models.engines import SPECS
from gateway.models.entry import LOCAL, RANGED, Model, Pricing, Provider, Range
from schemas.base.fields import leaves
from schemas.catalog import ModelEntrySchema, ProviderEntrySchema
from schemas.sources import HubRef, parse_source

#: What a source may hold, in the order in which it is read: models name providers.
KINDS = ("providers", "models")


@dataclass(frozen=True)
class Source:
    """One place that tables come from; `text` is its TOML, if it has one, so that mistakes have a line."""

    name: str
    tables: Mapping[str, Any]
    text: str = ""


@dataclass(frozen=True)
class Problem:
    """A mistake in a source."""

    source: str
    text: str
    #: Where it is: `models` and an id, or `providers` and a name, then the field; empty for a source as a whole.
    path: tuple[str, ...] = ()
    #: Its line and column, as text; empty where the source has none.
    position: str = ""

    def is_about(self, model_id: str) -> bool:
        """Whether the table of that model has it."""
        return self.path[:2] == ("models", model_id)

    @property
    def name(self) -> str:
        """The id or name that it is about."""
        return "".join(self.path[1:2])

    @property
    def field(self) -> str:
        """Its path."""
        return ".".join(self.path)

    @property
    def where(self) -> str:
        """Source, position and field, which anybody may see: nothing of the value, which may be a secret."""
        return f"{self.source}{self.position}{': ' if self.path else ''}{self.field}"

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Entries:
    """The models and providers of all sources, and what is wrong in them."""

    models: Mapping[str, Model] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


class Mistake(Exception):
    """One field is wrong: its path in the source, and an error text."""

    def __init__(self, path: Sequence[str | int], text: str) -> None:
        super().__init__(text)
        self.path = tuple(str(part) for part in path)
        self.text = text


def build(sources: Sequence[Source], *, models_dir: Path, before: Entries = Entries()) -> Entries:
    """The entries of all sources, later ones over earlier ones. `models_dir` is where downloaded models lie.

    One that is wrong stays as it was in `before`, or is left out if it was not there.
    """
    problems: list[Problem] = []
    raw = {kind: _merge(sources, kind, problems) for kind in KINDS}
    providers: dict[str, Provider] = {}
    for name, table in raw["providers"].items():
        try:
            providers[name] = Provider(name=name, **_load(ProviderEntrySchema(), table, ("providers", name)))
        except Mistake as mistake:
            problems.append(_problem(sources, mistake))
            if name in before.providers:
                providers[name] = before.providers[name]
    names = [name for name, table in raw["models"].items() if table.get("enabled", True)]
    models: dict[str, Model] = {}
    for name in names:
        try:
            models[name] = _model(name, raw["models"][name], models_dir, providers, names)
        except Mistake as mistake:
            problems.append(_problem(sources, mistake))
            if name in before.models:
                models[name] = before.models[name]
    for name, model in list(models.items()):
        try:
            models[name] = _of_base(model, models)
        except Mistake as mistake:
            problems.append(_problem(sources, mistake))
            del models[name]
            if name in before.models:
                models[name] = before.models[name]
    found = {name: replace(model, via=providers.get(model.provider)) for name, model in models.items()}
    return Entries(found, providers, problems)


def position_of(text: str, path: Sequence[str]) -> tuple[int, int]:
    """Line and column (from 1) of the deepest part of a path that a TOML text has; 0 and 0 if it has none."""
    table: list[str] = []
    depth, found = 0, (0, 0)
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            here = table = _key_path(stripped)
        else:
            here = table + _key_path(stripped.partition("=")[0] + "= 0")
        if len(here) > depth and here == list(path[: len(here)]):
            depth, found = len(here), (number, len(line) - len(line.lstrip()) + 1)
    return found


def _key_path(line: str) -> list[str]:
    """The key that a line of TOML sets, as a path; empty if it sets none."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        path.append(name)
    return path


def _merge(sources: Sequence[Source], kind: str, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for source in sources:
        entries = source.tables.get(kind, {})
        if not isinstance(entries, dict):
            problems.append(_problem([source], Mistake((kind,), f'Must hold tables such as [{kind}."ID"].')))
            continue
        for key, table in entries.items():
            if isinstance(table, dict):
                merged[key] = {**merged.get(key, {}), **table}
            else:
                problems.append(_problem([source], Mistake((kind, key), f'Must be a table: [{kind}."{key}"].')))
    return merged


def _problem(sources: Sequence[Source], mistake: Mistake) -> Problem:
    """A mistake with the last source that has the most of its path."""
    depth, where = max(
        ((_depth(source.tables, mistake.path), number) for number, source in enumerate(sources)), default=(0, 0)
    )
    source = sources[where]
    line, column = position_of(source.text, mistake.path) if depth else (0, 0)
    at = f", line {line}, column {column}" if line else ""
    return Problem(source.name, mistake.text, mistake.path, at)


def _depth(tables: Any, path: Sequence[str]) -> int:
    depth = 0
    for part in path:
        if not isinstance(tables, Mapping) or part not in tables:
            break
        tables, depth = tables[part], depth + 1
    return depth


def _load(schema: Any, table: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(table)
    except ValidationError as error:
        inner, texts = next(leaves(error.messages))
        raise Mistake((*path, *inner), " ".join(texts)) from error
    return {name: value for name, value in loaded.items() if value is not None}


def _model(
    model_id: str,
    table: Mapping[str, Any],
    models_dir: Path,
    providers: Mapping[str, Provider],
    names: Sequence[str],
) -> Model:
    path = ("models", model_id)
    checked = _load(ModelEntrySchema(), {"name": model_id, **table, "id": model_id}, path)
    checked.pop("enabled", None)
    for name in RANGED:
        if name in checked:
            checked[name] = Range(**checked[name])
    if "pricing" in checked:
        checked["pricing"] = Pricing(**checked["pricing"])
    for name in ("capabilities", "fallbacks"):
        if name in checked:
            checked[name] = tuple(checked[name])
    model = Model(**checked, models_dir=models_dir)
    if model.provider not in (LOCAL, *providers):
        known = ", ".join([LOCAL, *sorted(providers)])
        raise Mistake((*path, "provider"), f"There is no provider {model.provider!r}. Known providers: {known}.")
    if model.engine and model.engine not in SPECS:
        known = ", ".join(sorted(SPECS))
        raise Mistake((*path, "engine"), f"There is no engine {model.engine!r}. Known engines: {known}.")
    for name in model.fallbacks:
        if name not in names or name == model.id:
            raise Mistake((*path, "fallbacks"), f"{name!r} is not the id of another model.")
    return model


def _of_base(model: Model, models: Mapping[str, Model]) -> Model:
    """An adapter with what it has of its base; any other model as it is. Raises: Mistake."""
    path, base = ("models", model.id), models.get(model.base)
    for name in model.fallbacks:
        if name in models and models[name].base:
            raise Mistake((*path, "fallbacks"), f"{name!r} is an adapter; name its base {models[name].base!r}.")
    if not model.base and not model.adapter:
        return model
    if base is None or not base.deployable or base is model:
        raise Mistake((*path, "base"), f"{model.base!r} is not the id of a local model that has weights of its own.")
    if model.source or model.engine:
        name = "source" if model.source else "engine"
        raise Mistake((*path, name), f"An adapter has that of its base {base.id!r}: leave it out.")
    if not model.adapter or isinstance(parse_source(model.adapter), HubRef):
        raise Mistake((*path, "adapter"), f"Got {model.adapter!r}; must be a folder or package with an adapter.")
    if base.engine not in SPECS or not SPECS[base.engine].adapters:
        able = ", ".join(name for name, spec in SPECS.items() if spec.adapters)
        raise Mistake((*path, "base"), f"The engine {base.engine!r} of {base.id!r} serves no adapters: {able} does.")
    return replace(
        model,
        engine=base.engine,
        context_length=model.context_length or base.context_length,
        tool_format=model.tool_format or base.tool_format,
        reasoning_format=model.reasoning_format or base.reasoning_format,
    )

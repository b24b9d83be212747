"""Reads models and providers: the default ones, then `headrace.toml`, then two variables, each over the one before.

An entry with a known id changes only the fields that it has. Errors name file, line and field.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from marshmallow import ValidationError

from gateway.errors import InvalidSetting
from gateway.models.entry import LOCAL, RANGED, Model, Pricing, Provider, Range
from gateway.settings import Settings
from schemas.base.fields import leaves
from schemas.catalog import ModelEntrySchema, ProviderEntrySchema

Tables = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Entries:
    """The models and providers of all sources."""

    models: Mapping[str, Model]
    providers: Mapping[str, Provider]


class Mistake(Exception):
    """One field is wrong: its path in the file, and an error text."""

    def __init__(self, path: Sequence[str | int], text: str) -> None:
        super().__init__(text)
        self.path = [str(part) for part in path]
        self.text = text


class CatalogFile:
    """`headrace.toml` as a source of models, and a copy of the last valid one."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.config
        self._settings = settings
        self._last_good = settings.data_dir / "run" / "catalog.toml"
        self._seen: tuple[int, ...] = ()

    def changed(self) -> bool:
        """Whether the file has changed since it was last read."""
        return self._signature() != self._seen

    def read(self) -> Entries:
        """Raises: InvalidSetting, naming line and field."""
        self._seen = self._signature()
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"{self.path} can't be read: {error}.") from error
        entries = self._parse(text)
        self._keep(text)
        return entries

    def has_last_good(self) -> bool:
        """Whether there is a copy to fall back to."""
        return self._last_good.exists()

    def read_last_good(self) -> Entries:
        """Read the last valid copy. Raises: InvalidSetting."""
        return self._parse(self._last_good.read_text())

    def _parse(self, text: str) -> Entries:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidSetting(f"{self.path} is not valid TOML: {error}. Correct that line.") from error
        sources = [
            tomllib.loads((files("gateway.models") / "default_models.toml").read_text()),
            table,
            {name: _variable(self._settings, name) for name in ("models", "providers")},
        ]
        try:
            return build(sources, models_dir=self._settings.data_dir / "models")
        except Mistake as mistake:
            where = f"{self.path}, line {line}" if (line := line_of(text, mistake.path)) else "the catalog"
            raise InvalidSetting(f"{where}: {'.'.join(mistake.path)}: {mistake.text}") from mistake

    def _keep(self, text: str) -> None:
        """Keep a copy for processes that start while the file is broken. A failure to write it is no error."""
        draft = self._last_good.with_suffix(f".{os.getpid()}")
        try:
            if self.has_last_good() and self._last_good.read_text() == text:
                return
            self._last_good.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text)
            draft.replace(self._last_good)
        except OSError:
            draft.unlink(missing_ok=True)

    def _signature(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def build(sources: Sequence[Mapping[str, Any]], *, models_dir: Path) -> Entries:
    """Merge and check; `models_dir` is where downloaded models lie. Raises: Mistake."""
    providers = {
        name: Provider(name=name, **_load(ProviderEntrySchema(), raw, ("providers", name)))
        for name, raw in _merge(sources, "providers").items()
    }
    models = {
        model_id: _model(model_id, raw, models_dir)
        for model_id, raw in _merge(sources, "models").items()
        if raw.get("enabled", True)
    }
    for model in models.values():
        if model.provider not in (LOCAL, *providers):
            known = ", ".join([LOCAL, *sorted(providers)])
            raise Mistake(
                ("models", model.id, "provider"), f"There is no provider {model.provider!r}. Known providers: {known}."
            )
        for name in model.fallbacks:
            if name not in models or name == model.id:
                raise Mistake(("models", model.id, "fallbacks"), f"{name!r} is not the id of another model.")
    found = {name: replace(model, via=providers.get(model.provider)) for name, model in models.items()}
    return Entries(found, providers)


def line_of(text: str, path: Sequence[str]) -> int:
    """The line (from 1) of the deepest part of a path that a TOML text has; 0 if it has none."""
    table: list[str] = []
    depth = found = 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("["):
            here = table = _key_path(line)
        else:
            here = table + _key_path(line.partition("=")[0] + "= 0")
        if len(here) > depth and here == list(path[: len(here)]):
            depth, found = len(here), number
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


def _variable(settings: Settings, name: str) -> Any:
    raw = getattr(settings, f"{name}_json") or "{}"
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        variable = f"HEADRACE_{name.upper()}_JSON"
        raise InvalidSetting(f"{variable} is not valid JSON: {error}. It must be an object of {name}.") from error


def _merge(sources: Sequence[Mapping[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for source in sources:
        entries = source.get(name, {})
        if not isinstance(entries, dict):
            raise Mistake((name,), f'Must hold tables such as [{name}."ID"].')
        for key, raw in entries.items():
            if not isinstance(raw, dict):
                raise Mistake((name, key), f'Must be a table: [{name}."{key}"].')
            merged[key] = {**merged.get(key, {}), **raw}
    return merged


def _load(schema: Any, raw: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(raw)
    except ValidationError as error:
        inner, texts = next(leaves(error.messages))
        raise Mistake((*path, *inner), " ".join(texts)) from error
    return {name: value for name, value in loaded.items() if value is not None}


def _model(model_id: str, raw: Mapping[str, Any], models_dir: Path) -> Model:
    checked = _load(ModelEntrySchema(), {"name": model_id, **raw, "id": model_id}, ("models", model_id))
    checked.pop("enabled", None)
    for name in RANGED:
        if name in checked:
            checked[name] = Range(**checked[name])
    if "pricing" in checked:
        checked["pricing"] = Pricing(**checked["pricing"])
    for name in ("capabilities", "fallbacks"):
        if name in checked:
            checked[name] = tuple(checked[name])
    return Model(**checked, models_dir=models_dir)

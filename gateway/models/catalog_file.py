"""`headrace.toml` and two variables as sources of models and providers, and a copy of the last file that was right."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import orjson

from gateway.errors import InvalidSetting
from gateway.models.tables import KINDS, Source
from gateway.settings import Settings


def defaults() -> Source:
    """The models and providers that every Headrace knows."""
    text = (files("gateway.models") / "default_models.toml").read_text()
    return Source("the default models", tomllib.loads(text))


def variables(settings: Settings) -> list[Source]:
    """What `HEADRACE_MODELS_JSON` and `HEADRACE_PROVIDERS_JSON` say. Raises: InvalidSetting."""
    found = []
    for kind in KINDS:
        raw = getattr(settings, f"{kind}_json")
        variable = f"HEADRACE_{kind.upper()}_JSON"
        try:
            found.append(Source(variable, {kind: orjson.loads(raw or "{}")}))
        except orjson.JSONDecodeError as error:
            raise InvalidSetting(f"{variable} is not valid JSON: {error}. It must be an object of {kind}.") from error
    return found


class CatalogFile:
    """The file, and the copy in the data folder, for processes that start while the file is wrong."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.config
        self._copy = settings.data_dir / "run" / "catalog.toml"
        self._seen: tuple[int, ...] | None = None

    def changed(self) -> bool:
        """Whether the file has changed since it was last read."""
        return self._signature() != self._seen

    def read(self) -> Source:
        """Raises: InvalidSetting, with line and column, if it can't be read as TOML."""
        self._seen = self._signature()
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"{self.path} can't be read: {error}.") from error
        try:
            return Source(str(self.path), _tables(text), text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidSetting(f"{self.path} is not valid TOML: {error}. Correct that line.") from error

    def read_copy(self) -> Source | None:
        """The copy; None if there is none."""
        try:
            text = self._copy.read_text()
            return Source(str(self.path), _tables(text), text)
        except (OSError, ValueError):
            return None

    def keep(self, source: Source) -> None:
        """Keep a copy of what is right. A failure to write it is no error."""
        draft = self._copy.with_suffix(f".{os.getpid()}")
        try:
            if self._copy.exists() and self._copy.read_text() == source.text:
                return
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(source.text)
            draft.replace(self._copy)
        except OSError:
            draft.unlink(missing_ok=True)

    def _signature(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _tables(text: str) -> Mapping[str, Any]:
    """Raises: tomllib.TOMLDecodeError."""
    table = tomllib.loads(text)
    return {kind: table[kind] for kind in KINDS if kind in table}

"""The settings, from `gateway/settings.py`: its comments say what each is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

from docs.site.markdown import code, table
from gateway import settings

_FILES = "see [Installing](../install.md)"
#: Defaults that depend on the machine.
ELSEWHERE = {"config": _FILES, "data_dir": _FILES, "node": "the host's name"}
TYPES = {"str": "text", "Path": "path", "bool": "true or false", "int": "whole number", "float": "number"}


def text() -> str:
    """A table of all settings."""
    return table(("variable", "type", "default", "meaning"), _rows())


def _rows() -> Iterator[tuple[str, str, str, str]]:
    comments = comment_by_name()
    for field in dataclasses.fields(settings.Settings):
        kind = " or ".join(code(word) for word in settings._WORDS.get(field.name, ())) or TYPES[str(field.type)]
        yield code(f"HEADRACE_{field.name.upper()}"), kind, _default(field), comments[field.name]


def comment_by_name() -> dict[str, str]:
    """What its comment says of each setting."""
    found = ModuleAnalyzer.for_module(settings.__name__).find_attr_docs()
    said = {name: " ".join(lines).strip() for (owner, name), lines in found.items() if owner == "Settings"}
    return {field.name: said.get(field.name, "") for field in dataclasses.fields(settings.Settings)}


def _default(field: dataclasses.Field[Any]) -> str:
    if field.name in ELSEWHERE:
        return ELSEWHERE[field.name]
    default = field.default
    if isinstance(default, Path | str):
        return code(default) if str(default) else "empty"
    return code(str(default).lower() if isinstance(default, bool) else f"{default:.12g}")

"""What arrays and objects are written into: the contract of the converter."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.grammars.fuel import Fuel
from gateway.grammars.grammar import Builder, Symbol
from gateway.grammars.json_schema.flat import Conj, Flat
from gateway.grammars.json_schema.reading import Reader


class Target(Protocol):
    """One schema on its way to a grammar."""

    fuel: Fuel
    reader: Reader
    build: Builder

    def value(self, conj: Conj) -> Symbol:
        """What stands for a value that is valid by each of these. Raises: Refused."""

    def fitting(self, flat: Flat) -> list[Any]:
        """The values that a schema gives, and that are valid by what else it says."""

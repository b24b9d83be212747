"""The contract of a check: a function of the installation that yields findings. Knows no check itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import httpx
import redis

from cli.api.connection import unreachable
from gateway.cluster.registry import Registry
from gateway.errors import HeadraceError
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW

log = logging.getLogger(__name__)

T = TypeVar("T")


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    #: It works, but something should be changed.
    WARNING = "warning"
    #: Something does not work, or a promise does not hold.
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """A result of a check, and what to do about it."""

    level: Level
    found: str
    remedy: str = ""
    #: The name of the check.
    check: str = ""


@dataclass(frozen=True)
class Installed:
    """The installation to check."""

    settings: Settings
    redis: redis.Redis
    store: JobStore
    registry: Registry
    catalog: Catalog


Check = Callable[[Installed], Iterable[Finding]]


def ok(found: str) -> Finding:
    """A finding that all is well."""
    return Finding(Level.OK, found)


def warning(found: str, remedy: str) -> Finding:
    """A finding that something should be changed."""
    return Finding(Level.WARNING, found, remedy)


def problem(found: str, remedy: str) -> Finding:
    """A finding that something does not work."""
    return Finding(Level.PROBLEM, found, remedy)


def run(
    checks: Sequence[Callable[[T], Iterable[Finding]]], installed: T, begin: Callable[[str], object] = lambda _: None
) -> Iterable[Finding]:
    """The findings of all checks. A check that fails does not hide the others. `begin` is told the name of each."""
    for check in checks:
        name = check.__name__.replace("_", " ")
        begin(name)
        try:
            for finding in check(installed):
                yield Finding(finding.level, finding.found, finding.remedy, name)
        except NOT_NOW as error:
            yield Finding(Level.PROBLEM, f"Redis can't do it now: {error}", "See its log.", name)
        except HeadraceError as error:
            yield Finding(Level.PROBLEM, error.message, check=name)
        except httpx.TransportError as error:
            yield Finding(Level.PROBLEM, unreachable(error), check=name)
        except Exception as error:  # the edge of a check: run the others
            log.exception("the check of %s failed", name)
            found = f"it can't be checked: {type(error).__name__}: {error}"
            yield Finding(Level.PROBLEM, found, "This is a mistake of the check itself; please report it.", name)

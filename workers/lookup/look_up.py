"""Looks a model up by its name: where it lies, which of its files are taken, and how this device would serve it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.cluster.registry import Device
from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.errors import MAX_TEXT, bounded
from gateway.models.names import HubName, ModelName, parse_name
from gateway.settings import Settings
from schemas.sources import FolderRef, PackageRef
from workers.lookup.found import Found
from workers.sources.base import Log, keep_quiet, never
from workers.sources.pump import run
from workers.sources.retry import Limits

if TYPE_CHECKING:
    from workers.lookup.places import Place


def look_up(
    name: str,
    *,
    settings: Settings,
    device: Device,
    revision: str = "",
    engine: str = "",
    is_cancelled: Callable[[], bool] = never,
    log: Log = keep_quiet,
    limits: Limits | None = None,
) -> Found:
    """What a name means on this node, and how its model would be served on the device. Downloads no weights.

    `revision` is a branch, tag or commit for names that have none; an empty `engine` is chosen.

    Raises:
        SourceFailed: CANCELLED; there is no such model, it can't be reached or read, or nothing here could serve it.
            The text is one line that says what to do.
    """
    parsed = _parsed(name, revision)
    try:
        from workers.lookup.choose import choices
        from workers.lookup.propose import propose
        from workers.lookup.requirements import reading

        def read() -> Found:
            with reading():
                place = _place(parsed, settings, limits or Limits(), is_cancelled, log)
                return propose(place, choices(place, device, engine, settings.max_batch_size))

        return run(read, is_cancelled)
    except ModuleNotFoundError as error:
        raise SourceFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{error.name} is not installed on {device.node}: pip install 'headrace[worker]'.",
        ) from error
    except SourceFailed as error:
        # What it quotes may be of anybody's making.
        line = "".join(one if one.isprintable() else " " for one in error.message)
        raise SourceFailed(error.reason, bounded(line, MAX_TEXT)) from error


def _parsed(name: str, revision: str) -> ModelName:
    """Raises: SourceFailed."""
    host = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
    try:
        parsed = parse_name(name, hosts=(host,) if host else ())
    except ValueError as error:
        raise SourceFailed(FailureReason.MISSING_FILE, f"{error}.") from error
    if not revision:
        return parsed
    if not isinstance(parsed, HubName):
        raise SourceFailed(FailureReason.MISSING_FILE, f"{name} has no revisions: only repositories of the hub do.")
    if parsed.revision and parsed.revision != revision:
        raise SourceFailed(
            FailureReason.MISSING_FILE, f"{name} names the revision {parsed.revision}, and not {revision}."
        )
    return replace(parsed, revision=revision)


def _place(name: ModelName, settings: Settings, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> Place:
    """Raises: SourceFailed."""
    from workers.lookup import hub_place, places

    if isinstance(name, FolderRef):
        return places.folder_place(name)
    if isinstance(name, HubName):
        return hub_place.hub_place(name, settings=settings, limits=limits, is_cancelled=is_cancelled, log=log)
    try:
        return places.package_place(name)
    except SourceFailed as error:
        if isinstance(name, PackageRef):
            raise
        near = hub_place.meant(name.name, is_cancelled)
        raise SourceFailed(error.reason, f"{error.message}{near}") from error

"""The startup of a replica: its stages, and a log of them that every process may read.

The agent and the model worker append entries while they work, and deployments copy them. The log of a replica that is
gone is dropped. Knows nothing of how a stage is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

import redis

from gateway.errors import Unreadable
from gateway.store import keys
from gateway.store.checks import MAX_MS
from gateway.store.codec import dumps, load_as
from gateway.store.unreadable import readable

#: The process that runs a stage: the agent of the device, or the model worker that it starts.
AGENT, WORKER = "agent", "worker"
#: The stages in their order, as the customer's document names them, and who runs each. `workers/stages` has one file
#: for each, of the same name.
STAGES = {
    "preparation": AGENT,
    "downloading_weights": AGENT,
    "model_initialization": WORKER,
    "model_loading": WORKER,
    "service_registration": WORKER,
}
#: How many entries of one replica are kept, and for how many seconds after the last one.
MAX_ENTRIES, KEEP_S = 1_000, 86_400


class StageStatus(StrEnum):
    """The state of a stage."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class End(StrEnum):
    """How a startup ended: nothing more is done for the replica."""

    ACTIVE = "active"
    #: It is not tried again. `failure` says why.
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class Entry:
    """One event of a replica's startup. Empty fields mean nothing.

    `status` is of the stage, one of `StageStatus`; `end` is one of `End`.
    """

    at_ms: int
    stage: str = ""
    status: str = ""
    #: 0 to 100.
    progress: int = 0
    #: What the stage counts, such as bytes or tensors; `units_total` 0: it counts nothing.
    units_done: int = 0
    units_total: int = 0
    level: str = ""
    message: str = ""
    end: str = ""
    #: `reason`, `message`, `remedy` of a failure.
    failure: Mapping[str, str] = field(default_factory=dict)
    #: Figures to remember: planned and measured memory, effective options.
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: Id of the log entry, `{ms}-{n}`.
    id: str = ""


class StartupLog:
    """Reads and appends the entries of one replica."""

    def __init__(self, client: redis.Redis, replica_id: str) -> None:
        self._redis = client
        self._key = keys.startup_log(replica_id)

    def append(self, **fields: Any) -> None:
        """Add an entry with the present time."""
        entry = {name: value for name, value in asdict(Entry(int(time.time() * 1000), **fields)).items() if value}
        pipe = self._redis.pipeline(transaction=False)
        pipe.xadd(self._key, {"e": dumps(entry)}, maxlen=MAX_ENTRIES, approximate=True)
        pipe.expire(self._key, KEEP_S)
        pipe.execute()

    def read(self, after: str = "") -> list[Entry]:
        """The entries after that id, or all; without those that can't be read."""
        found = cast(
            "list[tuple[str, dict[str, str]]]", self._redis.xrange(self._key, min=f"({after}" if after else "-")
        )
        named = [(f"Entry {entry_id} of {self._key}", (entry_id, fields)) for entry_id, fields in found]
        return [entry for _, entry in readable(named, _read)]

    def clear(self) -> None:
        """Delete the log, before a replica of the same id starts again."""
        self._redis.delete(self._key)


def _read(raw: tuple[str, Mapping[str, str] | None]) -> Entry:
    entry_id, fields = raw
    entry = replace(load_as(Entry, (fields or {}).get("e", "")), id=entry_id)
    if not 0 <= entry.at_ms <= MAX_MS or entry.end not in {"", *End}:
        raise Unreadable("Its time, or the end that it tells of, can't be.")
    return entry

"""What a look-up finds: a proposal for the catalog, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.deployments.memory import MemoryPlan
from gateway.models.facts import ModelFacts


@dataclass(frozen=True)
class Found:
    """A model by its name, as it was at this moment. Nothing of it is decided or kept by having been looked up."""

    #: As the catalog writes it, pinned: `hub:OWNER/NAME@COMMIT[/FILE]`, an absolute path, or `package:NAME/FILE`.
    source: str
    #: The id that is proposed: always one that the catalog takes, but perhaps one that it has.
    id: str
    #: Fields of `schemas/catalog.py`'s ModelEntrySchema, but for the id.
    entry: Mapping[str, Any]
    facts: ModelFacts
    #: The memory that it would take of the device with this entry.
    plan: MemoryPlan
    #: What could be had instead: `change` of the entry's fields, `total_bytes` with it, and whether it `fits`.
    alternatives: Sequence[Mapping[str, Any]]
    #: What the person should know before it is downloaded, a line each.
    warnings: Sequence[str]

    def to_public(self) -> dict[str, Any]:
        """As JSON, for clients."""
        return {
            "source": self.source,
            "id": self.id,
            "entry": dict(self.entry),
            "facts": asdict(self.facts),
            "memory_plan": self.plan.to_public(),
            "alternatives": [dict(one) for one in self.alternatives],
            "warnings": list(self.warnings),
        }

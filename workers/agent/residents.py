"""Models that a device serves from its agent's start, without a deployment: `resident_models`.

So a pool of machines may grow and shrink by itself: each has what it is there for. Unloading such a model holds until
the agent starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from gateway.cluster.desired import Desired, ReplicaSpec, replica_id
from gateway.cluster.nodes import Nodes, Place
from gateway.models.catalog import Catalog
from gateway.settings import Settings

log = logging.getLogger(__name__)


class Residents:
    """Adds what is missing to the desired state of one device, once."""

    def __init__(self, settings: Settings, desired: Desired, catalog: Catalog, nodes: Nodes) -> None:
        self._place = Place(settings.node, settings.device)
        self._desired = desired
        self._nodes = nodes
        self._catalog = catalog
        self._missing = dict.fromkeys(settings.resident_models.replace(",", " ").split())
        self._said: set[str] = set()

    def settle(self, specs: Iterable[ReplicaSpec | None]) -> None:
        """Add a replica of each, unless one is desired here. A model that the catalog has later is added then, and one
        of a device that takes no new replicas when it takes some again.

        Raises: NOT_NOW.
        """
        if not self._missing or self._nodes.is_held(self._place):
            return
        here = {one.model for one in specs if one}
        known = {model.id for model in self._catalog if model.deployable}
        for model in [name for name in self._missing if name in known]:
            if model not in here:
                log.info("%s is to serve %s", self._place, model)
                self._desired.put(ReplicaSpec(replica_id(model, *self._place), model, *self._place))
            del self._missing[model]
        for model in self._missing.keys() - self._said:
            log.warning("HEADRACE_RESIDENT_MODELS names %r; the catalog has no such local model yet", model)
            self._said.add(model)

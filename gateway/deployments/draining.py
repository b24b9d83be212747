"""Empties a node, or one of its devices: each model's replicas there move elsewhere where they fit, by deployments like
any other.

One pass plans what is not under way yet, so that it can be asked for again until it is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.access.admitted import Admissions
from gateway.access.api_keys import KeyRecord
from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.nodes import Nodes, NodeState, Place
from gateway.deployments.service import Deployments
from gateway.errors import Conflict, InvalidRequest, ModelNotFound, NoDevice, Unreadable


@dataclass(frozen=True)
class Move:
    """What becomes of a model's replicas there: they are `moving`, `ending` or `staying`."""

    model_id: str
    outcome: str
    deployment_id: str | None = None
    #: Why they do not move, or move already.
    reason: str | None = None

    @property
    def begins(self) -> bool:
        """Whether it is this pass that moves or ends them."""
        return self.outcome == "ending" or (self.outcome == "moving" and not self.reason)


class Draining:
    """Drains nodes and devices, and undoes it."""

    def __init__(self, nodes: Nodes, deployments: Deployments) -> None:
        self._nodes = nodes
        self._deployments = deployments
        self._desired = deployments.desired
        self._admissions = Admissions(deployments.store.redis)

    def drain(self, place: Place, *, key: KeyRecord, force: bool = False) -> list[Move]:
        """Let a node or a device take no new replicas, and move those that it has. Running requests end first.

        What fits nowhere else stays, unless others serve its model, or with `force`: then it ends.

        Raises: NotFound, PermissionDenied.
        """
        is_new = self._nodes.hold(place, NodeState.DRAINING)
        specs = self._on(place, self._desired.all())
        self._desired.drop([spec for spec in specs if spec.state == SpecState.FAILED])
        models = sorted({spec.model for spec in specs if spec.state != SpecState.FAILED})
        moves = [self._move(model, place, key=key, force=force) for model in models]
        if is_new or any(move.begins for move in moves):  # else somebody waits, and asks again and again
            outcomes = {move.model_id: move.outcome for move in moves}
            self._deployments.audit.note(key, "node.drain", str(place), models=outcomes, force=force)
        return moves

    def cordon(self, place: Place, *, key: KeyRecord) -> None:
        """Let a node or a device take no new replicas; those that it has stay. Raises: NotFound."""
        if self._nodes.hold(place, NodeState.CORDONED):
            self._deployments.audit.note(key, "node.cordon", str(place))

    def uncordon(self, place: Place, *, key: KeyRecord) -> None:
        """Let a node or a device take new replicas again, also after a drain. Raises: NotFound."""
        if self._nodes.hold(place, None):
            self._deployments.audit.note(key, "node.uncordon", str(place))

    def forget(self, name: str, *, key: KeyRecord) -> list[str]:
        """Remove all that is known of a node that is gone, its admission, and the replicas that it should have had.
        Returns their ids.

        Raises:
            NotFound: there is no such node.
            Conflict: it is alive.
        """
        with suppress(Unreadable):  # it can be forgotten all the same
            self._nodes.get(name)
        if any(device.node == name for device in self._deployments.registry.devices()):
            raise Conflict(
                f"Node {name!r} is alive, and would be listed again. End what runs there first ('headrace down').",
                reason="node_alive",
            )
        specs = [spec for spec in self._desired.all() if spec.node == name]
        self._desired.drop(specs)
        self._nodes.forget(name)
        self._admissions.withdraw(name)
        dropped = [spec.replica_id for spec in specs]
        self._deployments.audit.note(key, "node.forget", name, dropped_replicas=dropped)
        return dropped

    def _move(self, model_id: str, place: Place, *, key: KeyRecord, force: bool) -> Move:
        here = [spec for spec in self._on(place, self._desired.all(model_id)) if spec.state != SpecState.FAILED]
        try:
            return Move(model_id, "moving", self._deployments.replace(model_id, here, key=key))
        except (NoDevice, Conflict, InvalidRequest, ModelNotFound) as error:
            if error.reason == "deployment_in_progress":
                return Move(model_id, "moving", str(error.details.get("deployment_id", "")) or None, error.message)
            if force or self._is_served_elsewhere(model_id, here):
                self._desired.drop(here)
                return Move(model_id, "ending", reason=error.message)
            return Move(model_id, "staying", reason=error.message)

    def _is_served_elsewhere(self, model_id: str, here: Sequence[ReplicaSpec]) -> bool:
        alive = {one.replica_id for one in self._deployments.registry.replicas(model_id) if one.health == "healthy"}
        return any(one not in here and one.replica_id in alive for one in self._desired.all(model_id))

    @staticmethod
    def _on(place: Place, specs: Iterable[ReplicaSpec]) -> list[ReplicaSpec]:
        return [spec for spec in specs if place.has(spec.node, spec.device)]

"""What is known of a model that is being loaded, and who has one loaded for a request. Knows no deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.cluster.desired import ReplicaSpec
from gateway.errors import HeadraceError
from gateway.models.entry import Model


@dataclass(frozen=True)
class Loading:
    """How far the loading of a model is."""

    #: 0 to 100.
    progress: int
    #: One of `gateway.cluster.startup.STAGES`; empty: none has begun.
    stage: str
    #: Seconds that are left, if it goes on as fast as earlier ones.
    left_s: float

    def to_public(self) -> dict[str, Any]:
        """As clients see it."""
        return {"progress": self.progress, "stage": self.stage}


class Loads(Protocol):
    """Follows the loading of models."""

    def of(self, model: str, replicas: Sequence[ReplicaSpec]) -> Loading:
        """How far a model is that no replica serves yet; `replicas` are those that it is to have. Raises: NOT_NOW."""


class Loader(Protocol):
    """Loads local models for requests. Every method may raise NOT_NOW (`gateway/store/connection.py`)."""

    def obstacle(self, model: Model) -> HeadraceError | None:
        """Why a request for a model that no replica serves would not load it; None if it would.

        At most half a second old.
        """

    def require(self, model: Model, besides: str = "") -> None:
        """Raises: the error that `obstacle` returns, as it is now, with `besides` behind its text."""

    def load(self, model: Model, *, asked_by: str) -> None:
        """Begin to load a model, unless that has begun. `asked_by`: the API key whose request waits for it.

        Raises: HeadraceError, as `obstacle` returns.
        """

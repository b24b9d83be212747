"""The words of the documents that clients read are those that the product says."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from gateway.cluster.nodes import NodeState
from gateway.cluster.startup import StageStatus
from gateway.inference.routing import ModelStatus
from gateway.jobs.record import JobState
from schemas import deployments, jobs, models
from schemas.cluster import nodes


@pytest.mark.parametrize(
    ("documented", "said"),
    [
        (models.MODEL_STATUSES, set(ModelStatus)),
        (nodes.STATES, set(NodeState)),
        (jobs.STATUSES, {state.word for state in JobState}),
        (deployments.STAGE_STATUSES, {*StageStatus, "pending", "cancelled"}),
    ],
)
def test_every_word_is_documented(documented: Collection[str], said: Collection[str]) -> None:
    assert len(documented) == len(set(documented))
    assert set(documented) == said

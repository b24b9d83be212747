"""docs/engines.md says what engines declare of a resume, and every feature that one of them has is in its table."""

from __future__ import annotations

from gateway.models.engines import SPECS
from tests.made_parts import part
from tests.resume_table import PAGE, ROWS, table


def test_the_table_is_made_of_the_declarations() -> None:
    assert part(PAGE, "resume") == table()


def test_every_feature_is_in_it() -> None:
    shown = {feature for row in ROWS for feature in row.features}
    for spec in SPECS.values():
        assert spec.can | spec.keeps <= shown
        assert spec.keeps <= spec.can | {"greedy", "grammar"}

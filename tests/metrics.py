"""What `GET /metrics` says, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """One look: every sample by its name and labels."""

    def __init__(self, client: httpx.Client) -> None:
        response = client.get("/metrics")
        assert response.status_code == 200, response.text
        self.families = {family.name: family for family in text_string_to_metric_families(response.text)}

    def series(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """The samples of that name with these labels, by the values of the others."""
        found: dict[tuple[str, ...], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    found[_others(sample.labels, labels)] = sample.value
        return found

    def total(self, name: str, **labels: str) -> float:
        """Their sum."""
        return sum(self.series(name, **labels).values())


def _others(found: Mapping[str, str], known: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(value for name, value in sorted(found.items()) if name not in known)

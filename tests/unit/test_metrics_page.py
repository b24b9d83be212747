"""Rules, board and runbook speak of metrics that there are; each alert has its line in docs/metrics.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.store.metrics import COUNTED, GAUGES, OF_KEYS, Metric, as_lua
from tests.stack import REPOSITORY

EXAMPLES = REPOSITORY / "docs" / "examples"
PAGE = (REPOSITORY / "docs" / "metrics.md").read_text()


def samples(metric: Metric) -> set[str]:
    if metric.name in GAUGES:
        return {metric.name}
    return {f"{metric.name}{end}" for end in (("_bucket", "_sum", "_count") if metric.buckets else ("_total",))}


KNOWN = {name: metric for metric in (*COUNTED.values(), *GAUGES.values(), OF_KEYS) for name in samples(metric)}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in json.loads((EXAMPLES / "grafana.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_expressions_name_metrics_and_labels_that_there_are(expression: str) -> None:
    found = re.findall(r"((?:headrace|gen_ai_server)_\w+)(?:\{([^}]*)\})?", expression)
    assert found or expression.startswith("up{")
    for name, selector in found:
        assert name in KNOWN
        assert set(re.findall(r"(\w+)(?:=|!)", selector)) <= set(KNOWN[name].labels)


def test_the_page_says_what_to_do_about_each_alert() -> None:
    assert re.findall(r"^\| (Headrace\w+) \|", PAGE, re.MULTILINE) == [rule["alert"] for rule in rules()]
    named = set(re.findall(r"`(headrace_\w+)`", PAGE))
    assert named <= set(KNOWN) | {metric.name for metric in KNOWN.values()}


def test_the_scripts_know_the_buckets() -> None:
    assert "each = {10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2500}" in as_lua()
    assert "\n" not in as_lua()

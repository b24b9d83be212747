"""Helm itself, in a process of its own: it is a library in Go, which takes over the signals of whoever loads it. Then a
broken pipe ends the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import yaml

from tests.stack import REPOSITORY

CHART = REPOSITORY / "docker" / "chart"

Objects = dict[tuple[str, str], dict[str, Any]]


class HelmError(Exception):
    """What Helm says of a chart or of its values."""


def rendered(values: dict[str, Any], name: str = "r", namespace: str = "llm") -> Objects:
    """All objects of a release of our chart, by kind and name."""
    texts = _asked({"values": values, "name": name, "namespace": namespace})
    documents = [
        one for path, text in texts.items() if path.endswith(".yaml") for one in yaml.safe_load_all(text) if one
    ]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


def linted(values: dict[str, Any]) -> Any:
    """The report of Helm's linter on our chart."""
    return _asked({"values": values})


def _asked(request: dict[str, Any]) -> Any:
    command = [sys.executable, "-m", "tests.helm"]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    return json.loads(done.stdout)


def _answered(request: dict[str, Any]) -> Any:
    import helm_python

    values = request.pop("values")
    try:
        if not request:
            return helm_python.lint(CHART, values, strict=True)
        with helm_python.Chart.load(CHART) as chart:
            return chart.render(values, **request)
    except helm_python.HelmError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    print(json.dumps(_answered(json.load(sys.stdin))))

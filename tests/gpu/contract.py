"""The contract of engines on a device: `python -m tests.gpu.contract` runs the tests that hold every engine to it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

#: Of what these files say of engines, that of those which compute on CUDA.
FILES = (
    "tests/unit/test_sampler.py",
    *(f"tests/integration/test_{name}.py" for name in ("engines", "engine_extras", "engine_extremes")),
    *("tests/integration/test_engine_grammars.py", "tests/integration/test_resumes.py"),
    "tests/faults/test_seeded_answers.py",
)
KEPT = ("-m", "not slow", "-k", "(sampler or seeded or transformers or vllm) and not openvino")
#: No fixtures of others, whose packages are not there; warnings are of other versions than the locked ones.
OPTIONS = ("--noconftest", "-p", "no:cacheprovider", "-W", "default", "--maxfail", "20", "--timeout", "120")


class Counts:
    """How the tests end, written with each of them: there may be no time for the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What pytest calls with each phase of a test."""
        if report.when == "call" or not report.passed:
            self._found[report.outcome] += 1
            self._path.write_text(json.dumps(self._found))


def main() -> int:
    """Run, count, and write. Returns pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ["HEADRACE_TEST_DEVICE"] = args.device
    return int(pytest.main([*OPTIONS, *KEPT, *FILES], plugins=[Counts(args.out)]))


if __name__ == "__main__":
    sys.exit(main())

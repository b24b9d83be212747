"""Builds the site, by Sphinx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1]


def build(target: str | Path, source: str | Path = DOCS) -> int:
    """Write the pages of `source` as HTML into `target`. Returns the exit status: 0 if nothing was wrong."""
    options = ("--fail-on-warning", "--keep-going", "--quiet", "--nitpicky", "--conf-dir", str(DOCS))
    folders = ("--doctree-dir", f"{target}.doctrees", str(source), str(target))
    command = [sys.executable, "-m", "sphinx", "--builder", "html", *options, *folders]
    return subprocess.run(command, check=False).returncode

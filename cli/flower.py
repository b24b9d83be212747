"""Flower behind a password: `python -m cli.flower`. It shows agents and model workers by name, and their tasks."""

from __future__ import annotations

import os
import sys

from cli.preflight import secret_file
from gateway.settings import Settings


def main() -> None:
    """Become Flower."""
    settings = Settings.load()
    password = secret_file(settings, "flower.password")
    environ = {
        **os.environ,
        "FLOWER_BASIC_AUTH": f"admin:{password}",
        "FLOWER_ADDRESS": settings.flower_host,
        "FLOWER_PORT": str(settings.flower_port),
    }
    os.execve(sys.executable, [sys.executable, "-m", "celery", "-A", "tasks.app", "flower"], environ)


if __name__ == "__main__":
    main()

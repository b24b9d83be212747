"""Flower behind a password: `python -m cli.flower`. It shows agents and model workers by name, and their tasks."""

from __future__ import annotations

import os

import click
from celery.bin.base import CLIContext
from celery.bin.celery import celery
from flower.command import flower

from gateway.access.secret_files import secret_file
from gateway.process.start import run
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings


def main(settings: Settings) -> None:
    """Run until SIGTERM."""
    os.environ |= {
        "FLOWER_BASIC_AUTH": f"admin:{secret_file(settings, 'flower.password')}",
        "FLOWER_ADDRESS": settings.flower_host,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_MAX_TASKS": str(settings.flower_max_tasks),
        # Else Flower would run a file of that name in the current folder.
        "FLOWER_CONF": os.devnull,
    }
    # As `celery -A tasks.app flower`, which would look for the application in the current folder.
    parent = click.Context(celery, obj=CLIContext(app=make_celery(settings), no_color=True, workdir=None))
    flower.main([], "flower", parent=parent)


if __name__ == "__main__":
    run(main)

"""The Celery application for command lines such as `celery -A tasks.app`, and for Flower. Connects to nothing here."""

from __future__ import annotations

from gateway.queue.celery_app import make_celery
from gateway.settings import Settings

app = make_celery(Settings.load())

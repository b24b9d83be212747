"""Task bodies of the model worker."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from gateway.queue.names import GENERATE


@shared_task(name=GENERATE, bind=True, send_events=False)  # type: ignore[untyped-decorator]
def generate(self: Any, job_id: str = "") -> None:
    """Tell the worker, which has set itself on its Celery application, of work, or of one job."""
    self.app.replica.generate(job_id)

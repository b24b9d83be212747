"""Task bodies of the agent."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from gateway.queue.names import DEPLOY


@shared_task(name=DEPLOY, bind=True)  # type: ignore[untyped-decorator]
def deploy(self: Any, job_id: str) -> None:
    """Run one deployment on the agent, which has set itself on its Celery application."""
    self.app.agent.deploy(job_id)

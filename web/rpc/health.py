"""grpc.health.v1: serving means what /health/ready means.

Not grpcio-health-checking's own servicer: it holds a lock while it sends, so one stalled watcher would keep all others
from a new status, even at the end of the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from gateway.context import Gateway
from gateway.readiness import check

log = logging.getLogger(__name__)

#: How often readiness is checked.
LOOK_S = 1.0


class Health(HealthServicer):
    """One status for all services of this process."""

    def __init__(self, gateway: Gateway, services: Sequence[str]) -> None:
        self._gateway = gateway
        self._services = {"", *services}
        self._status: int = HealthCheckResponse.NOT_SERVING
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Check readiness repeatedly. At the end of the server the status is NOT_SERVING."""
        try:
            while True:
                await self.check()
                await asyncio.sleep(LOOK_S)
        finally:
            self._set(HealthCheckResponse.NOT_SERVING)

    async def check(self) -> None:
        """Check readiness. If that fails, the status is NOT_SERVING."""
        try:
            ready = (await asyncio.to_thread(check, self._gateway)).ready
        except Exception:  # it is checked again soon
            log.exception("readiness could not be checked")
            ready = False
        self._set(HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802 - its name in gRPC
        """Whether a request could be served now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r} here.")
        return HealthCheckResponse(status=self._status)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """The present status, and each change."""
        known, sent = request.service in self._services, None
        while True:
            changed = self._changed
            status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
                sent = status
            await changed.wait()

    def _set(self, status: int) -> None:
        if status != self._status:
            self._status = status
            self._changed.set()
            self._changed = asyncio.Event()

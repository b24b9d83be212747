"""grpc.health.v1: serving means what /health/ready means. Each model is a service, too: `models/ID`.

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
    """One status for the services of this process, and one for each model."""

    def __init__(self, gateway: Gateway, services: Sequence[str]) -> None:
        self._gateway = gateway
        self._services = ("", *services)
        self._serving = dict.fromkeys(self._services, False)
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Check readiness repeatedly. At the end of the server all are NOT_SERVING."""
        try:
            while True:
                await self.check()
                await asyncio.sleep(LOOK_S)
        finally:
            self._set(dict.fromkeys(self._serving, False))

    async def check(self) -> None:
        """Check readiness. If that fails, all are NOT_SERVING."""
        try:
            serving = await asyncio.to_thread(self._found)
        except Exception:  # it is checked again soon
            log.exception("readiness could not be checked")
            serving = dict.fromkeys(self._serving, False)
        self._set(serving)

    def _found(self) -> dict[str, bool]:
        ready = check(self._gateway).ready
        takes = self._gateway.inference.router.takes
        models = {f"models/{model.id}": ready and takes(model) for model in self._gateway.catalog}
        return dict.fromkeys(self._services, ready) | models

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802 - its name in gRPC
        """Whether a request could be served now."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r} here.")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """The present status, and each change."""
        sent = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
                sent = status
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._serving:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        return int(HealthCheckResponse.SERVING if self._serving[service] else HealthCheckResponse.NOT_SERVING)

    def _set(self, serving: dict[str, bool]) -> None:
        if serving != self._serving:
            self._serving = serving
            self._changed.set()
            self._changed = asyncio.Event()

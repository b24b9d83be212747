"""grpc.health.v1: serving means what /health/ready means. Each model is a service, too: `models/ID`.

Not grpcio-health-checking's own servicer: it holds a lock while it sends, so one stalled watcher would keep all others
from a new status, even at the end of the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
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
#: The services that are models begin with it.
MODELS = "models/"
SERVING: int = HealthCheckResponse.SERVING
NOT_SERVING: int = HealthCheckResponse.NOT_SERVING
UNKNOWN: int = HealthCheckResponse.SERVICE_UNKNOWN


class Health(HealthServicer):
    """One status for the services of this process, and one for each model that somebody asks for."""

    def __init__(self, gateway: Gateway, services: Sequence[str]) -> None:
        self._gateway = gateway
        self._services = ("", *services)
        #: By service, of this process and of models that are watched.
        self._statuses: dict[str, int] = dict.fromkeys(self._services, NOT_SERVING)
        self._watched: Counter[str] = Counter()
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Check readiness repeatedly. At the end of the server nothing is serving."""
        try:
            while True:
                await self.check()
                await asyncio.sleep(LOOK_S)
        finally:
            self._set(dict.fromkeys(self._statuses, NOT_SERVING))

    async def check(self) -> None:
        """Check readiness. If that fails, nothing is serving."""
        self._set(await self._found({*self._services, *self._watched}))

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802 - its name in gRPC
        """Whether a request could be served now."""
        status = self._statuses.get(request.service)
        if status is None:
            status = (await self._found({request.service}))[request.service]
        if status == UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r} here.")
        return HealthCheckResponse(status=status)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """The present status, and each change."""
        service, sent = request.service, None
        self._watched[service] += 1
        try:
            if service not in self._statuses:
                await self.check()
            while True:
                changed, status = self._changed, self._statuses.get(service)
                if status not in (None, sent):  # none yet: a look that began before this call has ended behind it
                    await context.write(HealthCheckResponse(status=status))
                    sent = status
                await changed.wait()
        finally:
            self._watched[service] -= 1
            self._watched += Counter()  # forgets those that nobody watches

    async def _found(self, services: Iterable[str]) -> dict[str, int]:
        """Their statuses now. Nothing is serving if it can't be told."""
        try:
            return await asyncio.to_thread(self._look, services)
        except Exception:  # it is checked again soon
            log.exception("readiness could not be checked")
            return dict.fromkeys(services, NOT_SERVING)

    def _look(self, services: Iterable[str]) -> dict[str, int]:
        """Their statuses now. Raises: what `check` raises."""
        ready = check(self._gateway).ready
        return {service: self._status(service, ready=ready) for service in services}

    def _status(self, service: str, *, ready: bool) -> int:
        if service not in self._services:
            model_id = service.removeprefix(MODELS)
            model = next((one for one in self._gateway.catalog if one.id == model_id), None)
            if model_id == service or model is None:
                return UNKNOWN
            ready = ready and self._gateway.inference.router.takes(model)
        return SERVING if ready else NOT_SERVING

    def _set(self, statuses: dict[str, int]) -> None:
        if statuses != self._statuses:
            self._statuses = statuses
            self._changed.set()
            self._changed = asyncio.Event()

"""What grpc.health.v1 says when a look at the gateway goes wrong."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.context import Gateway
from gateway.readiness import Readiness
from web.rpc import health

READY = Readiness(redis="healthy", keeper="healthy", replicas={"r": "healthy"})


def test_who_can_not_tell_does_not_serve_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter([READY, KeyError("odd"), READY])

    def check(_: Gateway) -> Readiness:
        if isinstance(found := next(looks), Exception):
            raise found
        return found

    awake = {"a"}
    router = SimpleNamespace(takes=lambda model: model.id in awake)
    gateway = SimpleNamespace(
        catalog=[SimpleNamespace(id="a"), SimpleNamespace(id="b")], inference=SimpleNamespace(router=router)
    )

    async def statuses() -> list[list[int]]:
        one, found = health.Health(cast(Gateway, gateway), []), []
        for _ in range(3):
            await one.check()
            services = [HealthCheckRequest(service=name) for name in ("", "models/a", "models/b")]
            found.append([(await one.Check(service, None)).status for service in services])
        return found

    monkeypatch.setattr(health, "check", check)
    serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    some = [serving, serving, not_serving]
    assert asyncio.run(statuses()) == [some, [not_serving] * 3, some]
    assert "KeyError: 'odd'" in caplog.text

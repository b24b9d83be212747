"""What grpc.health.v1 says when a look at the gateway goes wrong."""

from __future__ import annotations

import asyncio
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

    async def statuses() -> list[int]:
        one, found = health.Health(cast(Gateway, None), []), []
        for _ in range(3):
            await one.check()
            found.append((await one.Check(HealthCheckRequest(), None)).status)
        return found

    monkeypatch.setattr(health, "check", check)
    serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    assert asyncio.run(statuses()) == [serving, not_serving, serving]
    assert "KeyError: 'odd'" in caplog.text

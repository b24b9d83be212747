"""What grpc.health.v1 says when a look at the gateway goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import grpc
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


class Watching:
    """A call's context."""

    def __init__(self) -> None:
        self.written: list[int] = []

    async def write(self, response: HealthCheckResponse) -> None:
        self.written.append(response.status)

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise LookupError(code, text)


def test_each_model_is_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    awake: set[str] = set()
    router = SimpleNamespace(takes=lambda model: model.id in awake)
    gateway: Any = SimpleNamespace(catalog=[SimpleNamespace(id="a")], inference=SimpleNamespace(router=router))
    monkeypatch.setattr(health, "check", lambda _: READY)

    async def found() -> tuple[list[int], int]:
        one, seen = health.Health(gateway, []), Watching()
        watch = asyncio.create_task(one.Watch(HealthCheckRequest(service="models/a"), seen))
        while not seen.written:
            await asyncio.sleep(0)
        awake.add("a")
        now = (await health.Health(gateway, []).Check(HealthCheckRequest(service="models/a"), seen)).status
        await one.check()
        while len(seen.written) < 2:
            await asyncio.sleep(0)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await one.check()
        assert list(one._statuses) == [""], "what nobody watches is not looked at"
        for name in ("models/b", "a"):
            with pytest.raises(LookupError, match="no service"):
                await one.Check(HealthCheckRequest(service=name), seen)
        return seen.written, now

    serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    assert asyncio.run(found()) == ([not_serving, serving], serving)

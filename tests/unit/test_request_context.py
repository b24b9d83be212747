"""What a greenlet knows of a request is gone with the response: it serves others of the same connection."""

from __future__ import annotations

from gateway.context import Gateway
from gateway.process import log_context, trace_context
from gateway.process.trace_context import NONE, TraceContext
from gateway.settings import Settings
from web.app import create_app


def test_nothing_of_a_request_is_left_behind_its_response() -> None:
    gateway = Gateway.connect(Settings())
    log_context.begin(request_id="of-another")
    trace_context.begin(TraceContext(f"00-{'a' * 32}-{'b' * 16}-01"))
    with create_app(gateway).test_client() as client:
        response = client.options("/v1/chat/completions", headers={"X-Request-Id": "this"})
        assert response.headers["X-Request-Id"] == "this"
        assert log_context.request_id() == "this"
        response.close()
        assert log_context.current() == {}
        assert trace_context.current() == NONE
    gateway.redis.close()

"""Which pages of other origins may call: none, those of a list, or any."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from werkzeug.test import TestResponse

from gateway.context import Gateway
from gateway.settings import Settings
from web.app import create_app

APP, OTHER = "https://app.example", "https://other.example"


def asked(origins: str, origin: str, method: str = "OPTIONS") -> TestResponse:
    """The answer to a page of that origin, which has no key."""
    gateway = Gateway.connect(Settings(cors_origins=origins))
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    try:
        return create_app(gateway).test_client().open("/v1/chat/completions", method=method, headers=headers)
    finally:
        gateway.redis.close()


@pytest.fixture(params=["OPTIONS", "GET"])
def method(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("*", APP, "*"),
        (f"{APP}, https://second.example", APP, APP),
        (f"https://second.example {APP}", APP, APP),
        (APP, OTHER, None),
        (APP, "null", None),
        ("", APP, None),
    ],
)
def test_a_page_may_read_what_the_setting_allows(origins: str, origin: str, allowed: str | None, method: str) -> None:
    answer = asked(origins, origin, method)
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    assert ("Origin" in answer.headers.get("Vary", "")) == (allowed != "*"), "caches must tell the answers apart"


@pytest.mark.parametrize(("origins", "status"), [("*", 204), (APP, 204), (OTHER, 401), ("", 401)])
def test_only_a_preflight_that_is_allowed_needs_no_key(origins: str, status: int) -> None:
    answer = asked(origins, APP)
    assert answer.status_code == status
    assert answer.headers.get("Access-Control-Allow-Headers") == ("x-api-key" if status == 204 else None)

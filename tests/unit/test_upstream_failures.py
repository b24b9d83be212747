"""What errors of providers' SDKs mean."""

from __future__ import annotations

import httpx2
import openai
import pytest

from gateway.errors import FAILURES
from gateway.models.entry import Provider
from workers.providers.failures import UpstreamFailure, translate

PROVIDER = Provider("acme", "openai")


def meaning(status: int, body: object, headers: dict[str, str] | None = None) -> UpstreamFailure:
    request = httpx2.Request("POST", "http://acme.test/v1")
    response = httpx2.Response(status, headers=headers, request=request)
    error = openai.APIStatusError("no", response=response, body=body)
    return translate(error, PROVIDER, lambda text: text.replace("sk-1", "[key]"))


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable", "blame"),
    [
        (400, {"message": "bad"}, "upstream_refused", False, False),
        (400, {"message": "long", "code": "context_length_exceeded"}, "context_length_exceeded", False, False),
        (401, {"message": "sk-1"}, "upstream_auth", False, True),
        (403, None, "upstream_auth", False, True),
        (404, {"message": "no such model"}, "upstream_error", False, False),
        (408, None, "upstream_timeout", True, True),
        (413, None, "upstream_refused", False, False),
        (429, {"code": "rate_limit_exceeded"}, "upstream_rate_limited", True, False),
        (429, {"code": "insufficient_quota"}, "upstream_rate_limited", False, False),
        (500, "not an object", "upstream_error", True, True),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, "upstream_error", True, True),
        (301, None, "upstream_error", False, False),
    ],
)
def test_a_status_says_who_is_at_fault(status: int, body: object, reason: str, retryable: bool, blame: bool) -> None:
    failure = meaning(status, body)
    assert (failure.reason, failure.retryable, failure.blame) == (reason, retryable, blame)
    assert failure.reason in FAILURES
    assert "acme" in failure.message


def test_texts_are_shown_without_keys_and_not_at_all_if_the_key_was_refused() -> None:
    assert meaning(400, {"message": "sk-1 is odd"}).message.endswith("It says: [key] is odd")
    assert "It says" not in meaning(401, {"message": "sk-1 is odd"}).message
    assert len(meaning(500, {"message": "x" * 9999}).message) < 400

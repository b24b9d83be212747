"""What went wrong at a provider: who has failed, and whether it may be tried again. The SDKs' errors look alike.

Texts of a provider are shown without keys, and not at all when it refused our key.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from gateway.model import Provider

#: Characters of a provider's text that are shown.
MAX_TEXT = 300
#: What else may come of a server that cuts the connection, or does not keep to its protocol.
WIRE_ERRORS = (httpx2.HTTPError, ValueError, LookupError, AttributeError, TypeError)
#: Statuses that say that another try may succeed, beside 5xx.
_AGAIN = (408, 409, 429)
#: OpenAI's word for an account without money: waiting does not help.
_NO_QUOTA = "insufficient_quota"


@dataclass
class UpstreamFailure(Exception):
    """A call of a provider failed. `reason` is one of `gateway.errors.FAILURES`."""

    reason: str
    message: str
    #: The same call may succeed later.
    retryable: bool = False
    #: Seconds that the provider asks to wait.
    retry_after_s: float | None = None
    #: It counts against the provider.
    blame: bool = True

    @property
    def refused(self) -> bool:
        """The request itself is at fault: nobody could serve it."""
        return self.reason in ("upstream_refused", "invalid_request", "context_length_exceeded")

    def details(self, provider: Provider) -> dict[str, Any]:
        """For the error record of a job."""
        wait = {} if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        return {"provider": provider.name, "retryable": self.retryable, **wait}


def translate(error: Exception, provider: Provider, clean: Callable[[str], str]) -> UpstreamFailure:
    """What an error of an SDK, of httpx2 or of our own time-outs means. `clean` takes keys out of a text."""
    who = f"Provider {provider.name}"
    response = getattr(error, "response", None)
    body = _error_of(getattr(error, "body", None))
    kind = str(body.get("type") or "")
    status = int(getattr(error, "status_code", 0) or 0)
    if status == 200 or (response is None and body):
        status = _status_in_stream(kind, str(body.get("code") or ""))
    if status:
        headers = response.headers if response is not None else {}
        return _of_status(who, status, body, headers, clean)
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
    if isinstance(cause, TimeoutError):
        return UpstreamFailure("upstream_timeout", f"{who} did not answer in time.", retryable=True)
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UpstreamFailure("upstream_unreachable", f"{who} can't be reached.", retryable=True)
    if isinstance(cause, httpx2.TimeoutException):
        return UpstreamFailure("upstream_timeout", f"{who} did not answer in time.", retryable=True)
    if isinstance(cause, httpx2.TransportError):
        return UpstreamFailure("upstream_interrupted", f"{who} cut the connection.", retryable=True)
    if isinstance(error, WIRE_ERRORS) or response is not None:
        text = f"{who} sent something that is not its protocol ({type(error).__name__})."
        return UpstreamFailure("upstream_malformed", text, retryable=True)
    return UpstreamFailure("upstream_error", f"{who} failed ({type(error).__name__}).", retryable=True)


def _of_status(
    who: str, status: int, body: Mapping[str, Any], headers: Mapping[str, str], clean: Callable[[str], str]
) -> UpstreamFailure:
    text = clean(str(body.get("message") or ""))[:MAX_TEXT]
    said = f" It says: {text}" if text else ""
    if status in (401, 403):
        return UpstreamFailure("upstream_auth", f"{who} refuses the key that this gateway has for it (HTTP {status}).")
    if status == 429:
        wait_s = retry_after_s(headers)
        wait = f" It asks to wait for {wait_s:g} s." if wait_s is not None else ""
        again = _NO_QUOTA not in (body.get("code"), body.get("type"))
        text = f"{who} limits the rate of this gateway (HTTP 429).{wait}{said}"
        return UpstreamFailure("upstream_rate_limited", text, again, wait_s, blame=False)
    if body.get("code") == "context_length_exceeded":
        return UpstreamFailure("context_length_exceeded", f"{who} refused the request.{said}", blame=False)
    if status in (400, 413, 422):
        return UpstreamFailure("upstream_refused", f"{who} refused the request (HTTP {status}).{said}", blame=False)
    if status == 408 or status == 504:
        return UpstreamFailure("upstream_timeout", f"{who} did not answer in time (HTTP {status}).", True)
    again = status >= 500 or status in _AGAIN
    return UpstreamFailure(
        "upstream_error", f"{who} failed (HTTP {status}).{said}", again, retry_after_s(headers), blame=status >= 500
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date (RFC 9110), or OpenAI's milliseconds; None if nothing readable is there."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        if "retry-after" not in headers:
            return None
        return max(0.0, float(headers["retry-after"]))
    except ValueError:
        moment = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment else None


def _error_of(body: Any) -> Mapping[str, Any]:
    """The inner object of an error body, in either protocol."""
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {"message": str(inner)}


def _status_in_stream(kind: str, code: str) -> int:
    """The status that an error inside a stream would have had."""
    known = {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "overloaded_error": 529,
        "timeout_error": 504,
    }
    return 400 if code == "context_length_exceeded" else known.get(kind, 500)

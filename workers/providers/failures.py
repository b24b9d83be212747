"""Translates errors of providers: who failed, and whether to try again. The SDKs' errors look alike.

A provider's texts are shown without keys, and not at all if it refused our key.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from gateway.models.entry import Provider
from gateway.store.codec import mended, writable
from schemas.base.retry_after import retry_after_s

#: Characters of a provider's text that are shown, and that are searched.
MAX_TEXT, MAX_READ = 300, 20_000
#: Bytes of an error that are read.
MAX_BYTES = 1 << 16
#: Fields in which servers put an error's text.
_TEXTS = ("message", "msg", "detail", "details", "error", "errors", "error_message", "error_description", "description")
#: Statuses that say that another try may succeed, beside 5xx.
_AGAIN = (408, 409, 429)
#: OpenAI's code for an account without credit: waiting does not help.
_NO_QUOTA = "insufficient_quota"


class WireError(Exception):
    """Base of errors in an answer that has arrived."""


class Malformed(WireError):
    """The answer is not in the provider's protocol. The text says what came instead.

    `blame`: it counts against the provider.
    """

    def __init__(self, what: str, *, blame: bool = True) -> None:
        super().__init__(what)
        self.blame = blame


class Said(WireError):
    """The answer is an error with a status of success. `body` is the error as the provider sent it."""

    def __init__(self, body: Any) -> None:
        super().__init__("an error in place of an answer")
        self.body = body


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
        """Whether the request itself is at fault, so that no provider could serve it."""
        return self.reason in ("upstream_refused", "invalid_request", "context_length_exceeded")

    def details(self, provider: Provider) -> dict[str, Any]:
        """For the error record of a job."""
        wait = {} if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        return {"provider": provider.name, "retryable": self.retryable, **wait}


async def shorten(response: httpx2.Response) -> None:
    """Hook of clients that read the whole of an error: it ends after `MAX_BYTES`."""
    if not response.is_success:
        response.stream = _Beginning(cast(httpx2.AsyncByteStream, response.stream))


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of a body."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = MAX_BYTES
        async for chunk in self._body:
            yield chunk[:rest]
            rest -= len(chunk)
            if rest <= 0:
                return

    async def aclose(self) -> None:
        await self._body.aclose()


def translate(error: Exception, provider: Provider, clean: Callable[[str], str]) -> UpstreamFailure:
    """The failure for an error of an SDK, of httpx2 or in the answer. `clean` removes keys from a text."""
    who = f"Provider {provider.name}"
    if isinstance(error, UpstreamFailure):
        return error
    if isinstance(error, Malformed):
        return UpstreamFailure("upstream_malformed", f"{who} sent {error}.", retryable=True, blame=error.blame)
    if isinstance(error, Said):
        return _of_status(who, _status_in_stream(error.body), error.body, {}, clean)
    response = getattr(error, "response", None)
    if status := int(getattr(error, "status_code", 0) or 0):
        headers = response.headers if response is not None else {}
        return _of_status(who, status, _sent(error), headers, clean)
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UpstreamFailure("upstream_unreachable", f"{who} can't be reached.", retryable=True)
    if isinstance(cause, TimeoutError | httpx2.TimeoutException):
        return UpstreamFailure("upstream_timeout", f"{who} did not answer in time.", retryable=True)
    if isinstance(cause, httpx2.TransportError):
        return UpstreamFailure("upstream_interrupted", f"{who} cut the connection.", retryable=True)
    if isinstance(cause, httpx2.HTTPError):
        text = f"{who} sent something that is not its protocol ({type(cause).__name__})."
        return UpstreamFailure("upstream_malformed", text, retryable=True)
    return UpstreamFailure("upstream_error", f"The call of provider {provider.name} failed ({type(error).__name__}).")


def _of_status(
    who: str, status: int, body: Any, headers: Mapping[str, str], clean: Callable[[str], str]
) -> UpstreamFailure:
    text = clean(text_of(body))[:MAX_TEXT]
    it_says = f" It says: {text}" if text else ""
    words = _words(body)
    if status in (401, 403):
        return UpstreamFailure("upstream_auth", f"{who} refuses the key that this gateway has for it (HTTP {status}).")
    if status == 429:
        wait_s = retry_after_s(headers)
        wait = f" It asks to wait for {wait_s:g} s." if wait_s is not None else ""
        text = f"{who} limits the rate of this gateway (HTTP 429).{wait}{it_says}"
        return UpstreamFailure("upstream_rate_limited", text, _NO_QUOTA not in words, wait_s, blame=False)
    if "context_length_exceeded" in words:
        return UpstreamFailure("context_length_exceeded", f"{who} refused the request.{it_says}", blame=False)
    if status in (400, 413, 422):
        return UpstreamFailure("upstream_refused", f"{who} refused the request (HTTP {status}).{it_says}", blame=False)
    if status in (408, 504):
        return UpstreamFailure("upstream_timeout", f"{who} did not answer in time (HTTP {status}).{it_says}", True)
    again = status >= 500 or status in _AGAIN
    text = f"{who} failed (HTTP {status}).{it_says}"
    return UpstreamFailure("upstream_error", text, again, retry_after_s(headers), blame=status >= 500)


def text_of(body: Any, depth: int = 6) -> str:
    """The text in an error of any shape, on one line; empty if there is none."""
    if isinstance(body, str):
        return _plain(body)
    if isinstance(body, list | tuple) and depth:
        return "; ".join(filter(None, (text_of(entry, depth - 1) for entry in body[:5])))
    if isinstance(body, Mapping) and depth:
        texts = (text_of(body[name], depth - 1) for name in _TEXTS if name in body)
        whole = json.dumps(writable(body), ensure_ascii=False) if body else ""
        return next(filter(None, texts), _plain(whole))
    return "" if body is None or isinstance(body, Mapping | list | tuple) else _plain(str(body))


def _plain(text: str) -> str:
    """Without HTML tags, line breaks and unprintable characters."""
    text = mended(text[:MAX_READ])
    if text.lstrip()[:1] == "<":
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _sent(error: Exception) -> Any:
    """The body of an error response, as far as it can be read; SDKs keep only the inner part of some shapes."""
    response = getattr(error, "response", None)
    try:
        return response.json() if response is not None and response.content else getattr(error, "body", None)
    except (ValueError, RecursionError, httpx2.HTTPError, httpx2.StreamError):
        return getattr(error, "body", None)


def _words(body: Any) -> set[str]:
    """The `code` and `type` of an error of any shape."""
    found = set()
    for part in _parts(body):
        found |= {value for value in (part.get("code"), part.get("type")) if isinstance(value, str)}
    return found


def _parts(body: Any) -> list[Mapping[str, Any]]:
    """An error's object, and those within it."""
    outer = [entry for entry in (body if isinstance(body, list) else [body])[:5] if isinstance(entry, Mapping)]
    return outer + [part["error"] for part in outer if isinstance(part.get("error"), Mapping)]


def _status_in_stream(body: Any) -> int:
    """The status that an error inside a stream would have had."""
    known = {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "insufficient_quota": 429,
        "overloaded_error": 529,
        "timeout_error": 504,
        "context_length_exceeded": 400,
    }
    for part in _parts(body):
        for value in (part.get("code"), part.get("status")):
            if isinstance(value, int | str) and re.fullmatch("[45][0-9][0-9]", str(value)):
                return int(value)
    return next((known[word] for word in sorted(_words(body)) if word in known), 500)

"""The one error tree. REST and gRPC render it; nothing else decides a status.

HeadraceError
├── InvalidSetting        a variable or headrace.toml is wrong (start-up only)
├── BadRequest            400  the body can't be read
├── Unauthenticated       401  no key, or an unknown one
├── PermissionDenied      403  the key lacks the scope
├── NotFound              404
│   ├── ModelNotFound
│   ├── NotDeployed            the model has no replica that could be unloaded or scaled
│   └── JobNotFound
├── Conflict              409
│   └── DoesNotFit             the device lacks the memory; `details` has the plan and what would fit
├── BodyTooLarge          413
├── UnsupportedEncoding   415  the body is compressed
├── InvalidRequest        422  fields are wrong; `errors` names each
│   ├── ContextTooLong
│   └── IdempotencyMismatch    the key was used with another body
├── Cancelled             499  the job was cancelled, and its client's protocol has no other word for it
├── QueueFull             429  come back after `retry_after_s`
├── RateLimited           429  the key has used up its minute; `headers` say what is left
├── GenerationFailed      500  the job ended as failed
│   └── TemplateFailed         the model's chat template is wrong, or takes too long
├── Unreadable            500  what Redis holds of it is damaged, or of a newer version
├── UpstreamFailed        502  a provider has failed; `details` says who, and whether to try again
│   ├── UpstreamTimeout   504
│   └── UpstreamRateLimited 429  the provider's limit, not the key's
└── Unavailable           503
    ├── ModelNotReady          no replica or provider worker serves the model
    │   └── LoadFailed         it was to be loaded for a request, and could not be; `details` has the remedy
    ├── UpstreamUnavailable    the provider's circuit breaker is open
    ├── Rewound                text that was sent is void
    ├── NoDevice               no agent is alive that could take the deployment
    ├── StoreUnavailable       Redis does not answer, or is full
    └── StoreLost              Redis came back without its data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Longest text of an error, of one flaw in it, and of a name in it, in characters (a client may have chosen them); and
#: how many flaws are reported.
MAX_TEXT, MAX_FLAW, MAX_NAME, MAX_FLAWS = 4_000, 500, 200, 20


#: Headers of an error that does not end by itself. OpenAI's SDKs, which try again after a 503, look for it.
DO_NOT_RETRY = {"x-should-retry": "false"}


def bounded(text: str, most: int) -> str:
    """A text of any client or provider, cut to `most` characters and mended so that it can be written as UTF-8."""
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class HeadraceError(Exception):
    """Base of all errors that a client may see.

    `reason` is a stable machine-readable word, `errors` maps a field's path to what is wrong with it, `details` is
    what else a program may want to know, `headers` go beside the answer (HTTP headers, gRPC metadata).
    """

    http_status = 500
    grpc_code = "INTERNAL"
    reason = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = bounded(message, MAX_TEXT)
        super().__init__(self.message)
        self.reason = reason or type(self).reason
        self.details = dict(details or {})
        flaws = list((errors or {}).items())[:MAX_FLAWS]
        self.errors = {bounded(name, MAX_NAME): [bounded(text, MAX_FLAW) for text in texts] for name, texts in flaws}
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})


class InvalidSetting(HeadraceError):
    """A setting has a value that is not allowed."""

    reason = "invalid_setting"


class BadRequest(HeadraceError):
    """The request can't be read at all."""

    http_status, grpc_code, reason = 400, "INVALID_ARGUMENT", "bad_request"


class Unauthenticated(HeadraceError):
    """No key was sent, or it is unknown, expired or revoked."""

    http_status, grpc_code, reason = 401, "UNAUTHENTICATED", "invalid_api_key"


class PermissionDenied(HeadraceError):
    """The key is valid but may not do this."""

    http_status, grpc_code, reason = 403, "PERMISSION_DENIED", "permission_denied"


class NotFound(HeadraceError):
    """The named thing does not exist, or belongs to another key."""

    http_status, grpc_code, reason = 404, "NOT_FOUND", "not_found"


class ModelNotFound(NotFound):
    """No model of that id is in the catalog."""

    reason = "model_not_found"


class NotDeployed(NotFound):
    """The model has no replica."""

    reason = "not_deployed"


class JobNotFound(NotFound):
    """No such job, or its record has expired."""

    reason = "job_not_found"


class Conflict(HeadraceError):
    """The request contradicts the present state."""

    http_status, grpc_code, reason = 409, "FAILED_PRECONDITION", "conflict"


class DoesNotFit(Conflict):
    """The device has not enough free memory for the model as it was asked for."""

    reason = "does_not_fit"


class BodyTooLarge(HeadraceError):
    """The body is larger than `max_body_bytes`."""

    http_status, grpc_code, reason = 413, "RESOURCE_EXHAUSTED", "body_too_large"


class UnsupportedEncoding(HeadraceError):
    """The body is compressed."""

    http_status, grpc_code, reason = 415, "INVALID_ARGUMENT", "unsupported_encoding"


class InvalidRequest(HeadraceError):
    """The body was read, but fields in it are wrong."""

    http_status, grpc_code, reason = 422, "INVALID_ARGUMENT", "invalid_request"

    @classmethod
    def of(cls, fields: Mapping[str, Sequence[str]]) -> InvalidRequest:
        """The error for wrong fields, with the first of them in its text."""
        found = cls("", errors=fields)
        texts = [f"{name}: {' '.join(each)}" for name, each in found.errors.items()]
        while len(texts) > 1 and sum(map(len, texts)) > MAX_TEXT - 200:
            texts.pop()
        more = [f"and {len(fields) - len(texts)} more"] if len(fields) > len(texts) else []
        return cls(f"The request is not valid. {'; '.join([*texts, *more])}", errors=found.errors)

    @classmethod
    def of_cursor(cls, cursor: str) -> InvalidRequest:
        """The error for a cursor that no page has given."""
        return cls.of({"cursor": [f"Got {cursor!r:.80}; must be the next_cursor of another page."]})


class ContextTooLong(InvalidRequest):
    """Prompt and answer do not fit the model's context."""

    reason = "context_length_exceeded"


class IdempotencyMismatch(InvalidRequest):
    """The idempotency key belongs to a job of another request."""

    reason = "idempotency_mismatch"


class Cancelled(HeadraceError):
    """The job was cancelled by somebody else. The status is the one that google.rpc.Code maps to its CANCELLED."""

    http_status, grpc_code, reason = 499, "CANCELLED", "cancelled"


class QueueFull(HeadraceError):
    """The model's queue has no room."""

    http_status, grpc_code, reason = 429, "RESOURCE_EXHAUSTED", "queue_full"


class RateLimited(HeadraceError):
    """The key's requests or tokens per minute are used up."""

    http_status, grpc_code, reason = 429, "RESOURCE_EXHAUSTED", "rate_limit_requests"


class Unavailable(HeadraceError):
    """Something that the request needs is not available at the moment."""

    http_status, grpc_code, reason = 503, "UNAVAILABLE", "unavailable"


class ModelNotReady(Unavailable):
    """The model is known, but no replica serves it."""

    reason = "model_not_ready"


class LoadFailed(ModelNotReady):
    """The model could not be loaded for a request. It is not tried again before `retry_after_s`."""

    reason = "load_failed"


class NoDevice(Unavailable):
    """No living agent matches, or there is none at all."""

    reason = "no_device"


class StoreUnavailable(Unavailable):
    """Redis does not answer, or has no room for new jobs."""

    reason = "store_unavailable"


class StoreLost(Unavailable):
    """Redis answers, but its data is gone; an operator has to restore it, or accept the loss."""

    reason = "store_lost"


class Rewound(Unavailable):
    """Redis lost the end of a journal whose text was sent already, to a client that can't take text back."""

    reason = "rewound"


class UpstreamUnavailable(Unavailable):
    """The provider has failed too often lately; its circuit breaker is open."""

    reason = "upstream_unavailable"


class UpstreamFailed(HeadraceError):
    """A provider failed. This includes its refusal of our key: the client's own key is fine."""

    http_status, grpc_code, reason = 502, "UNAVAILABLE", "upstream_error"


class UpstreamTimeout(UpstreamFailed):
    """A provider did not answer, or stopped in the middle, for longer than its time-out."""

    http_status, grpc_code, reason = 504, "DEADLINE_EXCEEDED", "upstream_timeout"


class UpstreamRateLimited(UpstreamFailed):
    """The provider's rate limit was reached."""

    http_status, grpc_code, reason = 429, "RESOURCE_EXHAUSTED", "upstream_rate_limited"


class Unreadable(HeadraceError):
    """A value in Redis can't be read: it is damaged, or a newer version wrote it."""

    http_status, grpc_code, reason = 500, "DATA_LOSS", "unreadable"


class GenerationFailed(HeadraceError):
    """The job ended as failed; `reason` is the job's own."""

    http_status, grpc_code, reason = 500, "INTERNAL", "generation_failed"

    @classmethod
    def from_job(cls, error: Mapping[str, object]) -> HeadraceError:
        """The error to answer for a failed job's `error` record."""
        reason = str(error.get("reason", cls.reason))
        kind = FAILURES.get(reason, cls)
        wait_s = error.get("retry_after_s")
        return kind(
            str(error.get("message", "the job failed")),
            reason=reason,
            retry_after_s=float(wait_s) if isinstance(wait_s, int | float) else None,
            details={name: error[name] for name in FAILURE_DETAILS if name in error},
        )


class TemplateFailed(GenerationFailed):
    """The model's chat template fails on a conversation. The fault is the template's, not the conversation's."""

    reason = "template_failed"


#: Further fields in the error of a failed job, about a provider or a deployment.
FAILURE_DETAILS = ("provider", "retryable", "remedy", "log", "memory_plan", "alternatives")
#: The error class for each reason that a worker or the keeper writes into a failed job.
FAILURES: dict[str, type[HeadraceError]] = {
    "invalid_request": InvalidRequest,
    "context_length_exceeded": ContextTooLong,
    "rate_limit_tokens": RateLimited,
    "queue_timeout": Unavailable,
    "begins_too_late": QueueFull,
    "model_not_ready": ModelNotReady,
    "load_failed": LoadFailed,
    "model_exists": Conflict,
    "engine_crashed": GenerationFailed,
    "worker_crashed": GenerationFailed,
    "internal_error": HeadraceError,
    "template_failed": TemplateFailed,
    "unreadable": Unreadable,
    # A provider failed.
    "upstream_error": UpstreamFailed,
    "upstream_unreachable": UpstreamFailed,
    "upstream_interrupted": UpstreamFailed,
    "upstream_malformed": UpstreamFailed,
    "upstream_auth": UpstreamFailed,
    "upstream_timeout": UpstreamTimeout,
    "upstream_rate_limited": UpstreamRateLimited,
    "upstream_unavailable": UpstreamUnavailable,
    # A provider refused the request itself.
    "upstream_refused": InvalidRequest,
}


def is_client_error(reason: str) -> bool:
    """Whether a failure reason is the client's fault, so that no worker could have served the job."""
    kind = FAILURES.get(reason, GenerationFailed)
    return kind.http_status < 500 and not issubclass(kind, UpstreamFailed)

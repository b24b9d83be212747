"""Errors as gRPC statuses, with google.rpc details: reason, field violations, retry delay, request id."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.errors import HeadraceError
from gateway.store.codec import dumps

DOMAIN = "headrace"
#: Longest texts, in bytes as they are sent: clients drop a call whose trailing metadata is larger than 8 KiB.
MAX_MESSAGE, MAX_VIOLATIONS, MAX_LOG, MAX_DATA = 1500, 1500, 1000, 1000


def to_status(error: HeadraceError, *, request_id: str, job_id: str = "") -> Any:
    """The status for `context.abort_with_status`."""
    code = code_pb2.Code.Value(error.grpc_code)
    status = status_pb2.Status(code=code, message=cut(error.message, MAX_MESSAGE))
    metadata = _metadata(error) | ({"job_id": job_id} if job_id else {})
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if isinstance(lines := error.details.get("log"), list):
        details.append(error_details_pb2.DebugInfo(stack_entries=_last(lines)))
    if error.errors:
        details.append(_violations(error))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _metadata(error: HeadraceError) -> dict[str, str]:
    """Further details of the error: texts are cut, data is JSON if all of it fits."""
    found, left = {}, MAX_DATA
    for name, value in error.details.items():
        if isinstance(value, dict | list):
            text = dumps(value)
            left -= len(text)
            if name == "log" or left < 0:
                continue
            found[name] = text
        elif value is not None:
            found[name] = cut(str(value), 200)
    return found


def _last(lines: Sequence[str]) -> list[str]:
    """The last log lines that fit."""
    found: list[str] = []
    left = MAX_LOG
    for line in reversed(lines):
        left -= len(line.encode())
        if left < 0:
            break
        found.insert(0, line)
    return found


def cut(text: str, limit: int) -> str:
    """A text cut to `limit` bytes in a header, where all but plain ASCII is escaped."""
    if len(quote(text, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}")) <= limit:
        return text
    keep = len(text)
    while len(quote(text[:keep])) > limit - 3:
        keep = keep * 3 // 4
    return f"{text[:keep]}..."


def _violations(error: HeadraceError) -> error_details_pb2.BadRequest:
    """The field violations that fit."""
    found = error_details_pb2.BadRequest()
    left = MAX_VIOLATIONS
    for name, texts in error.errors.items():
        description = cut(" ".join(texts), 500)
        left -= len(name.encode()) + len(description.encode())
        if left < 0:
            break
        found.field_violations.add(field=name, description=description)
    return found

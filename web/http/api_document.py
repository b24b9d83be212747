"""Completes the OpenAPI document with what holds for every operation: errors, headers, streams, background jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.chat import message_shapes

#: The meaning of each error status.
ERRORS = {
    400: "The body or a header can't be read",
    401: "No key, or one that is not valid",
    403: "The key may not do this",
    404: "There is no such thing, or it belongs to another key",
    409: "The request contradicts the present state",
    413: "The body is too large",
    415: "The body is compressed",
    422: "A field is wrong; `data.errors` names each",
    429: "The queue is full, or the key has used up its minute or its share",
    500: "The job failed on our side",
    502: "The provider failed",
    503: "The model, or the job store, is not ready",
    504: "The provider did not answer in time",
}
#: Error statuses with a time to wait.
_RETRY = (429, 503)
_TEXT: dict[str, Any] = {"type": "string"}
_HEADERS = {
    "X-Request-Id": ("Names this request; it is the request's own if that has one", _TEXT),
    "X-Job-Id": ("Names the job that the request has become", _TEXT),
    "Idempotent-Replayed": ("`true`: the job of an earlier request with the same Idempotency-Key", _TEXT),
    "X-Ignored-Fields": ("Below /v1: fields of the request that nobody has read, separated by commas", _TEXT),
    "Retry-After": ("Seconds to wait before the request is sent again", {"type": "integer", "minimum": 0}),
    "x-should-retry": ("`false`: this does not end by itself, so do not send it again", _TEXT),
    "Location": ("Where the job is", _TEXT),
    **{
        f"x-ratelimit-{what}-{unit}": (f"Of the key's {unit} per minute: {what}", _TEXT)
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    },
}
_LIMITS = tuple(name for name in _HEADERS if name.startswith("x-ratelimit"))
_ASKING = {
    "X-Request-Id": "Your own name for this request: 1 to 128 letters, digits and . _ : -",
    "Idempotency-Key": "The same key and body attach to the same job, however often they are sent",
    "Prefer": "`respond-async`: answer 202 at once, with a job to poll",
    "Last-Event-ID": "Go on behind this event",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Change the document in place, and return it."""
    components = document["components"]
    components["schemas"]["Message"] = message_shapes(components["schemas"]["Message"])
    components["schemas"]["StreamEvent"] = {
        "type": "object",
        "properties": {"id": _TEXT, "event": _TEXT, "data": {"anyOf": [{"const": "[DONE]"}, _chunk()]}},
    }
    components["headers"] = {name: {"description": text, "schema": schema} for name, (text, schema) in _HEADERS.items()}
    components["parameters"] = {
        name: {"in": "header", "name": name, "description": text, "schema": _TEXT} for name, text in _ASKING.items()
    }
    components["responses"] = {
        f"{face}{status}": _problem(face, status) for face in ("Error", "OpenAIError") for status in ERRORS
    }
    for path, item in document["paths"].items():
        for method in ("get", "post", "put", "patch", "delete"):
            if method in item:
                _complete(path, item[method], has_parameter="{" in path)
    return document


def _chunk() -> dict[str, Any]:
    """The schema of an event's `data`, before the `[DONE]` at the end."""
    kinds = ("ChatChunk", "CompletionChunk", "EmbeddingProgress", "DeploymentEvent", "Error", "OpenAIError")
    return _TEXT | {
        "description": "A chunk as JSON; if `event` is `error`, the error",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_ref("schemas", name) for name in kinds]},
    }


def _complete(path: str, operation: dict[str, Any], *, has_parameter: bool) -> None:
    responses = operation["responses"]
    for name in [name for name, response in responses.items() if "$ref" in response]:
        del responses[name]
    asks = path.endswith(("/completions", "/embeddings"))
    headers: tuple[str, ...] = ("X-Job-Id", "Idempotent-Replayed", *_LIMITS) if asks else ()
    if asks and path.startswith("/v1/"):
        headers = (*headers, "X-Ignored-Fields")
    names = ["X-Request-Id", *(["Idempotency-Key", "Prefer"] if asks else [])]
    if asks:
        _add_answers_of_a_job(path, responses)
    if path == "/usage":
        responses["200"]["content"]["text/csv"] = {"schema": _TEXT}
    if path.endswith("/events"):
        names.append("Last-Event-ID")
        responses["200"]["content"] = {"text/event-stream": {"schema": _ref("schemas", "StreamEvent")}}
        headers = ("X-Job-Id",)
    for response in responses.values():
        response["headers"] = {**response.get("headers", {}), **_header_refs("X-Request-Id", *headers)}
    face = "OpenAIError" if path.startswith("/v1/") else "Error"
    if path == "/" or path.startswith("/health"):
        operation["security"] = []
        names = names[:1]
        statuses = [400, 404, 422] if operation.get("parameters") else []
    else:
        statuses = _statuses(path, operation, asks=asks, has_parameter=has_parameter)
    for status in statuses:
        responses.setdefault(str(status), _ref("responses", f"{face}{status}"))
    operation["parameters"] = [*operation.get("parameters", []), *(_ref("parameters", name) for name in names)]


def _statuses(path: str, operation: Mapping[str, Any], *, asks: bool, has_parameter: bool) -> list[int]:
    """The errors that an operation may answer with."""
    statuses = {401, 429, 503}
    takes_input = "requestBody" in operation or any(p.get("in") == "query" for p in operation.get("parameters", ()))
    if takes_input or path.endswith("/events"):
        statuses |= {400} if path.startswith("/v1/") else {400, 422}
    if "requestBody" in operation:
        statuses |= {409, 413, 415} if has_parameter else {413, 415}
    if path in ("/models/local/deploy", "/models/{model_id}", "/nodes/{name}"):
        statuses |= {409}
    if path in ("/models", "/join-tokens") and takes_input:
        statuses |= {403, 409}
    if path.startswith(("/keys/", "/usage")) or path == "/jobs":  # two keys may have one name
        statuses |= {409}
    if has_parameter or path in ("/usage", "/jobs", "/queue", "/models/local/deploy"):
        statuses |= {404}
    if path == "/jobs" or path.startswith(
        ("/keys", "/usage", "/audit", "/models/local", "/nodes", "/queue", "/join-tokens")
    ):
        statuses |= {403}
    if asks:
        statuses |= {403, 404, 409, 500, 502, 504}
    return sorted(statuses)


def _add_answers_of_a_job(path: str, responses: dict[str, Any]) -> None:
    if not path.endswith("/embeddings"):
        responses["200"]["content"]["text/event-stream"] = {"schema": _ref("schemas", "StreamEvent")}
    face = "JobAccepted" if path.startswith("/v1/") else "JobAcceptedEnvelope"
    responses["202"] = {
        "description": "With `Prefer: respond-async`: the job is accepted",
        "content": {"application/json": {"schema": _ref("schemas", face)}},
        "headers": _header_refs("Location"),
    }


def _problem(face: str, status: int) -> dict[str, Any]:
    return {
        "description": ERRORS[status],
        "content": {"application/json": {"schema": _ref("schemas", face)}},
        "headers": _header_refs("X-Request-Id", *(["Retry-After", "x-should-retry"] if status in _RETRY else [])),
    }


def _header_refs(*names: str) -> dict[str, Any]:
    return {name: _ref("headers", name) for name in names}


def _ref(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}

"""API keys: make, list, read, change and revoke them. For admins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response
from flask_smorest import Blueprint

from gateway.access.api_keys import KeyRecord
from schemas.base.times import iso_seconds
from schemas.envelope import enveloped
from schemas.examples import KEY, KEY_CHANGE
from schemas.keys import (
    KeyChange,
    KeyChangeSchema,
    KeyListSchema,
    KeyRequest,
    KeyRequestSchema,
    KeySchema,
    NewKeySchema,
    RevokedKeySchema,
)
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("keys", __name__, url_prefix="/keys", description="API keys (scope admin)")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.before_request
def _admins_only() -> None:
    caller().require("admin")


@blueprint.route("")
@blueprint.response(200, enveloped(KeyListSchema))
def keys() -> Response:
    """All keys, also those that are revoked or have expired."""
    return success({"keys": [shown(record) for record in gateway().credentials.list()]})


@blueprint.route("", methods=["POST"])
@blueprint.arguments(KeyRequestSchema(), examples=KEY)
@blueprint.response(201, enveloped(NewKeySchema))
def create(body: KeyRequest) -> Response:
    """Make a key. Its secret is in this answer only."""
    record, secret = gateway().credentials.create(**asdict(body))
    return success({**shown(record), "secret": secret}, status=201)


@blueprint.route("/<key_id>")
@blueprint.response(200, enveloped(KeySchema))
def key(key_id: str) -> Response:
    """One key."""
    return success(shown(gateway().credentials.get(key_id)))


@blueprint.route("/<key_id>", methods=["PATCH"])
@blueprint.arguments(KeyChangeSchema(), examples=KEY_CHANGE)
@blueprint.response(200, enveloped(KeySchema))
def update(body: KeyChange, key_id: str) -> Response:
    """Change name, models, limits or expiry. It holds from the next request on."""
    return success(shown(gateway().credentials.update(key_id, body.fields)))


@blueprint.route("/<key_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(RevokedKeySchema))
def revoke(key_id: str) -> Response:
    """Revoke a key at once, and cancel its jobs. Once more does no harm."""
    record = gateway().credentials.revoke(key_id)
    return success({**shown(record), "cancelled_jobs": gateway().inference.cancel_all(record.id)})


def shown(record: KeyRecord) -> dict[str, Any]:
    """A key as admins see it."""
    return {
        **asdict(record),
        "status": record.status,
        "requests_per_minute": record.requests_per_minute or None,
        "tokens_per_minute": record.tokens_per_minute or None,
        "created_at": _iso(record.created_at),
        "expires_at": _iso(record.expires_at),
        "revoked_at": _iso(record.revoked_at),
    }


def _iso(time_s: int) -> str | None:
    return iso_seconds(time_s) if time_s else None

"""API keys: make, list, read, change, rotate and revoke them. For admins."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.views.api_keys import shown
from schemas.envelope import enveloped
from schemas.examples import KEY, KEY_CHANGE, ROTATION
from schemas.keys import (
    KeyChange,
    KeyChangeSchema,
    KeyListSchema,
    KeyRequest,
    KeyRequestSchema,
    KeySchema,
    NewKeySchema,
    RevokedKeySchema,
    RotationSchema,
)
from web.http.auth import authenticate, require_admin
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("keys", __name__, url_prefix="/keys", description="API keys (scope admin)")
NAMED = [{"in": "path", "name": "key_id", "description": "Its id or, if no other active key has it, its name"}]
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)
blueprint.before_request(require_admin)


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
    record, secret = gateway().key_editor.create(body, by=caller())
    return success({**shown(record), "secret": secret}, status=201)


@blueprint.route("/<key_id>", parameters=NAMED)
@blueprint.response(200, enveloped(KeySchema))
def key(key_id: str) -> Response:
    """One key."""
    return success(shown(gateway().credentials.find(key_id)))


@blueprint.route("/<key_id>", parameters=NAMED, methods=["PATCH"])
@blueprint.arguments(KeyChangeSchema(), examples=KEY_CHANGE)
@blueprint.response(200, enveloped(KeySchema))
def update(body: KeyChange, key_id: str) -> Response:
    """Change name, models, limits or expiry. It holds from the next request on."""
    return success(shown(gateway().key_editor.update(key_id, body, by=caller())))


@blueprint.route("/<key_id>/rotate", methods=["POST"], parameters=NAMED)
@blueprint.arguments(RotationSchema(), examples=ROTATION)
@blueprint.response(200, enveloped(NewKeySchema))
def rotate(body: dict[str, int], key_id: str) -> Response:
    """Give a key another secret; its present one ends, at once or after `grace_s`. Jobs, limits and usage stay.

    The new secret is in this answer only.
    """
    record, secret = gateway().key_editor.rotate(key_id, grace_s=body["grace_s"], by=caller())
    return success({**shown(record), "secret": secret})


@blueprint.route("/<key_id>", parameters=NAMED, methods=["DELETE"])
@blueprint.response(200, enveloped(RevokedKeySchema))
def revoke(key_id: str) -> Response:
    """Revoke a key at once, and cancel its jobs. Once more does no harm."""
    record = gateway().key_editor.revoke(key_id, by=caller())
    return success({**shown(record), "cancelled_jobs": gateway().inference.cancel_all(record.id)})

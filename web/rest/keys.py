"""API keys: make, list, read, change, rotate and revoke them. For admins; another key reads itself."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint

from gateway.views.api_keys import shown, shown_with_left, visible_key
from schemas.envelope import enveloped
from schemas.examples import KEY, KEY_CHANGE, ROTATION
from schemas.keys import (
    KeyChange,
    KeyChangeSchema,
    KeyListSchema,
    KeyRequest,
    KeyRequestSchema,
    KeySchema,
    KeyWithLeftSchema,
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


@blueprint.before_request
def guard() -> None:
    """All but the own key is for admins. Raises: PermissionDenied."""
    if request.endpoint != "keys.key":
        require_admin()


@blueprint.route("")
@blueprint.response(200, enveloped(KeyListSchema))
def keys() -> Response:
    """All keys, also those that are revoked or have expired."""
    return success({"keys": shown_with_left(gateway().inference.limits, gateway().credentials.list())})


@blueprint.route("", methods=["POST"])
@blueprint.arguments(KeyRequestSchema(), examples=KEY)
@blueprint.response(201, enveloped(NewKeySchema))
def create(body: KeyRequest) -> Response:
    """Make a key. Its secret is in this answer only."""
    record, secret = gateway().key_editor.create(body, by=caller())
    return success({**shown(record), "secret": secret}, status=201)


@blueprint.route("/<key_id>", parameters=NAMED)
@blueprint.response(200, enveloped(KeyWithLeftSchema))
def key(key_id: str) -> Response:
    """One key, and what is left of its limits; who is no admin may see the own one."""
    record = visible_key(gateway().credentials, key_id, caller())
    return success(shown_with_left(gateway().inference.limits, [record])[0])


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

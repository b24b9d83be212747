"""Tokens with which machines join: make, list and revoke them. For admins."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from schemas.cluster.joining import NewTokenSchema, TokenListSchema, TokenRequest, TokenRequestSchema, TokenSchema
from schemas.envelope import enveloped
from schemas.examples import JOIN_TOKEN
from web.http.auth import authenticate, require_admin
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("join tokens", __name__, url_prefix="/join-tokens", description="Tokens with which machines join")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)
blueprint.before_request(require_admin)


@blueprint.route("")
@blueprint.response(200, enveloped(TokenListSchema))
def tokens() -> Response:
    """All tokens, newest first; those that have ended for a day."""
    return success({"tokens": gateway().join_tokens.shown()})


@blueprint.route("", methods=["POST"])
@blueprint.arguments(TokenRequestSchema(), examples=JOIN_TOKEN)
@blueprint.response(201, enveloped(NewTokenSchema))
def create(body: TokenRequest) -> Response:
    """Make a token. It is in this answer only. The gateway must have been started with an address to listen on."""
    return success(gateway().join_tokens.create(body, by=caller()), status=201)


@blueprint.route("/<token_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(TokenSchema))
def revoke(token_id: str) -> Response:
    """End a token at once; machines that have joined stay. Once more does no harm."""
    return success(gateway().join_tokens.revoke(token_id, by=caller()))

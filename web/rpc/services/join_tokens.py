"""Tokens with which machines join: make, list and revoke them. For admins."""

from __future__ import annotations

from schemas.cluster.joining import TokenRequestSchema
from web.rpc.call import Call
from web.rpc.messages import build, to_dict
from web.rpc.stubs import model_pb2 as pb


def list_join_tokens(call: Call, _: pb.ListJoinTokensRequest) -> pb.ListJoinTokensResponse:
    """All tokens, newest first."""
    call.key.require("admin")
    return build(pb.ListJoinTokensResponse, {"tokens": call.gateway.join_tokens.shown()})


def create_join_token(call: Call, request: pb.CreateJoinTokenRequest) -> pb.CreateJoinTokenResponse:
    """Make a token."""
    body = TokenRequestSchema().load(to_dict(request))
    return build(pb.CreateJoinTokenResponse, call.gateway.join_tokens.create(body, by=call.key))


def revoke_join_token(call: Call, request: pb.RevokeJoinTokenRequest) -> pb.JoinToken:
    """End a token at once."""
    return build(pb.JoinToken, call.gateway.join_tokens.revoke(request.id, by=call.key))

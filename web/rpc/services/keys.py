"""API keys: make, list, read, change, rotate and revoke them, for admins; and what keys have used."""

from __future__ import annotations

from typing import Any

from gateway.views.api_keys import shown, shown_with_left, visible_key
from gateway.views.usage import usage
from schemas.keys import KeyChangeSchema, KeyRequestSchema, RotationSchema
from schemas.usage import UsageQuerySchema
from web.rpc.call import Call
from web.rpc.messages import build, to_dict
from web.rpc.stubs import model_pb2 as pb


def list_keys(call: Call, _: pb.ListKeysRequest) -> pb.ListKeysResponse:
    """All keys, also those that are revoked or have expired."""
    call.key.require("admin")
    found = shown_with_left(call.gateway.inference.limits, call.gateway.credentials.list())
    return build(pb.ListKeysResponse, {"keys": found})


def get_key(call: Call, request: pb.GetKeyRequest) -> pb.Key:
    """One key, and what is left of its limits; who is no admin may see the own one."""
    record = visible_key(call.gateway.credentials, request.key_id, call.key)
    return build(pb.Key, shown_with_left(call.gateway.inference.limits, [record])[0])


def create_key(call: Call, request: pb.CreateKeyRequest) -> pb.NewKey:
    """Make a key."""
    call.key.require("admin")
    record, secret = call.gateway.key_editor.create(KeyRequestSchema().load(to_dict(request)), by=call.key)
    return build(pb.NewKey, {**shown(record), "secret": secret})


def update_key(call: Call, request: pb.UpdateKeyRequest) -> pb.Key:
    """Change name, models, limits or expiry."""
    call.key.require("admin")
    body = to_dict(request)
    body.pop("key_id", None)
    change = KeyChangeSchema().load({name: _or_none(name, value) for name, value in body.items()})
    return build(pb.Key, shown(call.gateway.key_editor.update(request.key_id, change, by=call.key)))


def rotate_key(call: Call, request: pb.RotateKeyRequest) -> pb.NewKey:
    """Give a key another secret."""
    call.key.require("admin")
    body = RotationSchema().load({"grace_s": request.grace_s})
    record, secret = call.gateway.key_editor.rotate(request.key_id, grace_s=body["grace_s"], by=call.key)
    return build(pb.NewKey, {**shown(record), "secret": secret})


def revoke_key(call: Call, request: pb.RevokeKeyRequest) -> pb.RevokedKey:
    """Revoke a key at once, and cancel its jobs."""
    record = call.gateway.key_editor.revoke(request.key_id, by=call.key)
    return build(pb.RevokedKey, {**shown(record), "cancelled_jobs": call.gateway.inference.cancel_all(record.id)})


def get_usage(call: Call, request: pb.GetUsageRequest) -> pb.UsageReport:
    """Jobs that have ended, by key and model."""
    names = {"key_id": "key", "model": "model", "start": "from", "end": "to", "by": "by"}
    query = UsageQuerySchema().load({names[name]: value for name, value in to_dict(request).items()})
    found = usage(call.gateway.store.ledger, call.gateway.credentials, query, key=call.key)
    return build(pb.UsageReport, {**found, "start": found["from"], "end": found["to"]})


def _or_none(name: str, value: Any) -> Any:
    """What REST has for it: 0 and nothing stand for no limit and never."""
    if name == "models":
        return value.get("ids", [])
    return (value or None) if name.endswith("_per_minute") or name == "expires_at" else value

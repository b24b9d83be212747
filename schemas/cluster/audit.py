"""The audit log as admins see it."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from schemas.base.fields import StrictSchema, Text


class AuditQuerySchema(StrictSchema):
    """Which page."""

    cursor = Text(load_default="", metadata={"description": "The `next_cursor` of a page, for the one behind it"})
    limit = fields.Integer(validate=validate.Range(1, 200), load_default=50)


class AuditEntrySchema(Schema):
    """One change of a key, a model or a deployment."""

    id = fields.String(required=True)
    at = fields.String(required=True, metadata={"description": "ISO 8601"})
    action = fields.String(required=True, metadata={"description": "Such as `key.create` or `model.deploy`"})
    target = fields.String(required=True, metadata={"description": "Id of the key, model, deployment or node"})
    key_id = fields.String(
        required=True, metadata={"description": "Who did it; empty: a command on the gateway's machine, without a key"}
    )
    key_name = fields.String(required=True, metadata={"description": "Of that key then, or the user of the command"})
    face = fields.String(required=True, validate=validate.OneOf(("rest", "grpc", "cli")))
    details = fields.Dict(required=True, metadata={"description": "What was asked for, without secrets"})


class AuditSchema(Schema):
    """A page of the audit log, newest first."""

    entries = fields.List(fields.Nested(AuditEntrySchema), required=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "For the next page; null: there is none"}
    )

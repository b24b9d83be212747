"""The last hour as operators see it."""

from __future__ import annotations

from marshmallow import Schema, fields


class PointSchema(Schema):
    """What was at one moment, and what was counted since the point before."""

    at = fields.String(required=True, metadata={"description": "ISO 8601"})
    tokens_per_second = fields.Float(required=True)
    running = fields.Integer(required=True, metadata={"description": "Slots in use"})
    slots = fields.Integer(required=True)
    interactive = fields.Integer(required=True, metadata={"description": "Jobs that waited"})
    background = fields.Integer(required=True)
    ended = fields.Integer(required=True, metadata={"description": "Jobs, however they ended"})
    failed = fields.Integer(required=True)
    refused = fields.Integer(required=True, metadata={"description": "Requests that were answered with an error"})
    provider_calls = fields.Integer(required=True)
    provider_errors = fields.Integer(required=True)


class EndCountSchema(Schema):
    """How often something ended so."""

    end = fields.String(required=True)
    count = fields.Integer(required=True)


class ReasonCountSchema(Schema):
    """Jobs that failed for one reason."""

    reason = fields.String(required=True)
    count = fields.Integer(required=True)


class ReplyCountSchema(Schema):
    """Requests that were answered with one error."""

    status = fields.Integer(required=True, metadata={"description": "Of HTTP, also for gRPC"})
    reason = fields.String(required=True)
    count = fields.Integer(required=True)


class ProviderCallsSchema(Schema):
    """Calls to one provider."""

    provider = fields.String(required=True)
    calls = fields.Integer(required=True)
    errors = fields.Integer(required=True, metadata={"description": "Of them, those that failed"})
    ends = fields.List(fields.Nested(EndCountSchema), required=True)


class HistorySchema(Schema):
    """The last hour: its points, and what was counted since the first of them. Most frequent first."""

    every_s = fields.Integer(required=True, metadata={"description": "Between two points"})
    since = fields.String(required=True, allow_none=True, metadata={"description": "Null: there is no point yet"})
    points = fields.List(fields.Nested(PointSchema), required=True, metadata={"description": "The oldest first"})
    ends = fields.List(fields.Nested(EndCountSchema), required=True)
    failures = fields.List(fields.Nested(ReasonCountSchema), required=True)
    replies = fields.List(fields.Nested(ReplyCountSchema), required=True)
    providers = fields.List(fields.Nested(ProviderCallsSchema), required=True)

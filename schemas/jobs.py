"""Jobs as clients see them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from schemas.answers import UsageSchema
from schemas.base.fields import StrictSchema, Text

#: States of a job, in the words of the customer's document.
STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
#: Marked for cancellation, but not yet ended.
CANCELLING = "cancelling"


class LoadingSchema(Schema):
    """How far a model is loaded."""

    progress = fields.Integer(required=True, metadata={"description": "0 to 100"})
    stage = fields.String(required=True, metadata={"description": "As in a deployment; empty: none has begun"})


class JobSchema(Schema):
    """A job as clients see it. Times are ISO 8601."""

    job_id = fields.String(required=True)
    kind = fields.String(required=True)
    model = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))
    priority = fields.String()
    position = fields.Integer(metadata={"description": "Place in the queue from 1; 0 = does not wait"})
    eta_s = fields.Float(
        allow_none=True,
        metadata={"description": "Seconds until it is expected to begin; null: it has begun, or nobody can tell yet"},
    )
    loading = fields.Nested(
        LoadingSchema,
        allow_none=True,
        metadata={"description": "How far the model is loaded; null: it is there, or the job does not wait"},
    )
    attempts = fields.Integer()
    created_at = fields.String(required=True)
    started_at = fields.String(allow_none=True)
    finished_at = fields.String(allow_none=True)
    usage = fields.Nested(UsageSchema, allow_none=True)
    result = fields.Dict(allow_none=True, metadata={"description": "What the request itself would have answered"})
    error = fields.Dict(allow_none=True)
    events_url = fields.String()


class CancelledJobSchema(Schema):
    """How a job stands after it was told to end."""

    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))


class JobAcceptedSchema(Schema):
    """A job that runs by itself: poll `location`."""

    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    location = fields.String(required=True)


class JobListQuerySchema(StrictSchema):
    """Query of the job list."""

    status = Text(validate=validate.OneOf(STATUSES), load_default=None)
    limit = fields.Integer(validate=validate.Range(1, 200), load_default=50)


class JobListSchema(Schema):
    """Jobs of the caller's key, newest first."""

    jobs = fields.List(fields.Nested(JobSchema), required=True)

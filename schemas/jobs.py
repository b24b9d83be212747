"""Jobs as clients see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields, post_load, validate

from schemas.answers import UsageSchema
from schemas.base.fields import Moment, StrictSchema, Text

#: States of a job, in the words of the customer's document.
STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
#: Marked for cancellation, but not yet ended.
CANCELLING = "cancelling"


class LoadingSchema(Schema):
    """How far a model is loaded."""

    progress = fields.Integer(required=True, metadata={"description": "0 to 100"})
    stage = fields.String(required=True, metadata={"description": "As in a deployment; empty: none has begun"})


class JobHeadSchema(Schema):
    """What a job is, and how it stands. Times are ISO 8601."""

    job_id = fields.String(required=True)
    kind = fields.String(required=True)
    model = fields.String(required=True)
    key_id = fields.String(metadata={"description": "Id of the API key that asked for it; headrace: nobody did"})
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))
    priority = fields.String()
    attempts = fields.Integer()
    created_at = fields.String(required=True)
    started_at = fields.String(allow_none=True)
    finished_at = fields.String(allow_none=True)
    usage = fields.Nested(UsageSchema, allow_none=True)
    error = fields.Dict(allow_none=True)
    events_url = fields.String()


class JobSchema(JobHeadSchema):
    """A job as clients see it."""

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
    result = fields.Dict(allow_none=True, metadata={"description": "What the request itself would have answered"})


class TimelineEntrySchema(Schema):
    """One thing that has happened to a job, with what belongs to it."""

    at = fields.String(required=True)
    after_s = fields.Float(required=True, allow_none=True, metadata={"description": "Seconds after the request"})
    what = fields.String(
        required=True,
        metadata={
            "description": "`queued`, `claimed`, `first_token` of a claim, `batch`: another size of it, `interrupted`, "
            "`handed_over`, `cancelling`, `completed`, `failed` or `cancelled`"
        },
    )
    position = fields.Integer(metadata={"description": "`queued`: place in the line from 1; 0: it stands in none"})
    worker = fields.String(metadata={"description": "`claimed`: by whom"})
    claim = fields.String(metadata={"description": "`claimed`: the id of the claim"})
    model = fields.String(metadata={"description": "`claimed`: for which model; `handed_over`: to which one"})
    behind_tokens = fields.Integer(metadata={"description": "`claimed`: it goes on behind so many tokens"})
    batch = fields.Integer(metadata={"description": "`first_token`, `batch`: sequences in the batch; 0: there is none"})
    cause = fields.String(
        metadata={
            "description": "`interrupted`: `crashed`, `crashed_alone`, `lost` (its worker died), `given_back` or "
            "`preempted` (others needed its slots)"
        }
    )
    tokens = fields.Integer(metadata={"description": "`interrupted`: tokens of the claim that ended"})
    silent_s = fields.Float(metadata={"description": "`interrupted`: how long its worker was not heard of before"})


class TimelineSchema(JobHeadSchema):
    """What has happened to a job, oldest first."""

    prompt_tokens = fields.Integer(required=True, allow_none=True, metadata={"description": "null: not counted yet"})
    cached_tokens = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Of these from a cache; null: not told"}
    )
    waited_s = fields.Float(
        required=True, allow_none=True, metadata={"description": "Until it was claimed first; null: it waits"}
    )
    first_token_s = fields.Float(
        required=True, allow_none=True, metadata={"description": "Until its first token; null: there is none"}
    )
    elapsed_s = fields.Float(required=True, metadata={"description": "From the request until its end, or until now"})
    paused_s = fields.Float(
        required=True,
        metadata={
            "description": "In all, from the last that was heard before each interruption to the next token, the end "
            "or now"
        },
    )
    replayed_tokens = fields.Integer(
        required=True, metadata={"description": "Tokens that later claims went on behind, instead of anew"}
    )
    timeline = fields.List(fields.Nested(TimelineEntrySchema), required=True)


class CancelledJobSchema(Schema):
    """How a job stands after it was told to end."""

    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))


class JobAcceptedSchema(Schema):
    """A job that runs by itself: poll `location`."""

    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    location = fields.String(required=True)


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """The jobs to list. Empty and 0: all."""

    status: str
    model: str
    kind: str
    #: Id or name of a key; None: the caller's own, or all keys for an admin.
    key: str | None
    since_ms: int
    cursor: str
    limit: int


class JobListQuerySchema(StrictSchema):
    """Query of the job list."""

    status = Text(validate=validate.OneOf(STATUSES), load_default="")
    model = Text(load_default="", validate=validate.Length(1, 200), metadata={"description": "That was asked for"})
    kind = Text(load_default="", metadata={"description": "chat, completion, embedding, deployment, addition"})
    key = Text(load_default=None, metadata={"description": "Id or name of a key; another's needs `admin`"})
    since = Moment(load_default=None, metadata={"description": "Jobs that were made then or later"})
    cursor = Text(load_default="", metadata={"description": "The `next_cursor` of a page, for the one behind it"})
    limit = fields.Integer(validate=validate.Range(1, 200), load_default=50)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> JobQuery:
        since = data.pop("since")
        return JobQuery(since_ms=max(0, int(1000 * since.timestamp())) if since else 0, **data)


class JobListSchema(Schema):
    """A page of jobs, newest first: of the caller's key, or of all for an admin."""

    jobs = fields.List(fields.Nested(JobSchema), required=True)
    next_cursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "For the next page; null: there is none. A page may be short though another follows"},
    )

"""What keys used, as clients see it: dataclass and marshmallow schema side by side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from schemas.base.fields import Moment, StrictSchema, Text

#: The longest time, in days, that one report covers, and the default.
MAX_DAYS, DEFAULT_DAYS = 400, 30


@dataclass(frozen=True, kw_only=True)
class UsageQuery:
    """The part of the ledger to report. `key_id` None: the caller's own key, or all keys for an admin."""

    key_id: str | None
    model: str | None
    #: Aware times; the hour of `start` counts whole.
    start: datetime
    end: datetime
    #: `day`: a row for each; empty: one for the whole time.
    by: str = ""
    #: `json` or `csv`.
    format: str = "json"


class UsageQuerySchema(StrictSchema):
    """Query of the ledger."""

    key_id = Text(
        data_key="key", load_default=None, metadata={"description": "Id or name of a key; another's needs `admin`"}
    )
    model = Text(load_default=None, validate=validate.Length(1, 200))
    start = Moment(data_key="from", load_default=None, metadata={"description": f"Default: {DEFAULT_DAYS} days ago"})
    end = Moment(data_key="to", load_default=None, metadata={"description": "Exclusive; default: now"})
    by = Text(
        load_default="",
        validate=validate.OneOf(("day",)),
        metadata={"description": "`day`: a row for each day (UTC) instead of one for the whole time"},
    )

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> UsageQuery:
        end = data["end"] or datetime.now(UTC)
        try:
            start = data["start"] or end - timedelta(days=DEFAULT_DAYS)
        except OverflowError:
            start = datetime.min.replace(tzinfo=UTC)
        if not timedelta() < end - start <= timedelta(days=MAX_DAYS):
            raise ValidationError(f"Must be before 'to', by at most {MAX_DAYS} days.", "from")
        return UsageQuery(**{**data, "start": start, "end": end})


class UsageReportQuerySchema(UsageQuerySchema):
    """Query of the ledger, and what the report is written in."""

    format = Text(load_default="json", validate=validate.OneOf(("json", "csv")))


class CountsSchema(Schema):
    """Jobs that have ended, however they did, and their tokens."""

    jobs = fields.Integer(required=True)
    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class UsageRowSchema(CountsSchema):
    """What one key used of one model."""

    day = fields.String(required=True, allow_none=True, metadata={"description": "With `by=day`"})
    key_id = fields.String(required=True)
    key_name = fields.String(required=True)
    model = fields.String(required=True)
    cost = fields.Float(required=True)
    currency = fields.String(required=True)


class UsageTotalSchema(CountsSchema):
    """The sum of all rows."""

    cost = fields.Dict(fields.String(), fields.Float(), required=True, metadata={"description": "By currency"})


class UsageReportSchema(Schema):
    """The ledger between two times, by key and model."""

    start = fields.String(data_key="from", required=True)
    end = fields.String(data_key="to", required=True)
    usage = fields.List(fields.Nested(UsageRowSchema), required=True)
    total = fields.Nested(UsageTotalSchema, required=True)

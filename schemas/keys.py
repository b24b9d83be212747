"""API keys as admins see them: dataclass and marshmallow schema side by side."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates

from schemas.base.fields import Integer, Items, Moment, StrictSchema, Text

#: What a key may be allowed to do: ask models; deploy and unload them; all that, and manage keys.
SCOPES = ("inference", "deploy", "metrics", "admin")
#: Models that one key may name, and characters of a model's id.
MAX_MODELS, MAX_MODEL_ID = 100, 200
MAX_WEIGHT = 100
#: How long an old secret may still hold: 30 days, in seconds.
MAX_GRACE_S = 30 * 86_400
#: Texts without control characters, which a terminal obeys.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"
STATUSES = ("active", "expired", "revoked")


@dataclass(frozen=True, kw_only=True)
class KeyRequest:
    """A key to be made. 0 = no limit, never expires; no models = all."""

    name: str
    scopes: list[str]
    models: list[str]
    requests_per_minute: int
    tokens_per_minute: int
    #: How much it is served, next to others.
    weight: int
    #: Seconds since the epoch.
    expires_at: int


@dataclass(frozen=True)
class KeyChange:
    """What to change of a key, by the names of `KeyRequest`."""

    fields: Mapping[str, Any]


def printable(text: str) -> None:
    """Raises: ValidationError if a terminal would obey it."""
    if not re.fullmatch(PRINTABLE, text):
        raise ValidationError("Must hold no control characters, such as tabs and line ends.")


class KeyLimitsSchema(StrictSchema):
    """What can be changed later."""

    name = Text(required=True, validate=(validate.Length(1, 100), printable), metadata={"pattern": PRINTABLE})
    models = Items(
        Text(validate=validate.Length(1, MAX_MODEL_ID)),
        most=MAX_MODELS,
        allow_none=True,
        load_default=list,
        metadata={"description": "Ids of the models that it may ask; empty or null: all"},
    )
    requests_per_minute = Integer(1, 10**9)
    tokens_per_minute = Integer(1, 10**12)
    weight = Integer(
        1,
        MAX_WEIGHT,
        load_default=1,
        metadata={"description": "Where keys wait for a model, each is served tokens in proportion to its weight"},
    )
    expires_at = Moment(allow_none=True, load_default=None)

    @validates("expires_at")
    def _in_the_future(self, value: datetime | None, **_: Any) -> None:
        if value is not None and value.timestamp() <= time.time():
            raise ValidationError(f"Got {value.isoformat()}, which is past; must be in the future, or null for never.")

    def plain(self, data: dict[str, Any]) -> dict[str, Any]:
        """Null as the value that means none."""
        if "expires_at" in data:
            data["expires_at"] = int(data["expires_at"].timestamp()) if data["expires_at"] else 0
        none = {"models": [], "requests_per_minute": 0, "tokens_per_minute": 0, "weight": 1}
        return data | {name: none[name] for name in none if name in data and data[name] is None}


class KeyRequestSchema(KeyLimitsSchema):
    """Body of a new key."""

    scopes = Items(
        Text(validate=validate.OneOf(SCOPES, error=f"Got {{input}}; allowed: {', '.join(SCOPES)}.")),
        least=1,
        most=len(SCOPES),
        load_default=lambda: ["inference"],
    )

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> KeyRequest:
        return KeyRequest(**self.plain(data))


class KeyChangeSchema(KeyLimitsSchema):
    """Body of a change: what is not named stays as it is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "partial": True})

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> KeyChange:
        return KeyChange(self.plain(data))


class SignInSchema(StrictSchema):
    """Body of a sign-in at the dashboard: a secret."""

    key = Text(required=True, validate=validate.Length(1, 1000))


class RotationSchema(StrictSchema):
    """Body of a rotation."""

    grace_s = Integer(
        0,
        MAX_GRACE_S,
        load_default=0,
        metadata={"description": "Seconds for which the present secret still holds; revoking the key ends it sooner"},
    )


class KeySchema(Schema):
    """A key without its secret. Times are ISO 8601."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    prefix = fields.String(required=True, metadata={"description": "How the secret begins"})
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    scopes = fields.List(fields.String(), required=True)
    models = fields.List(fields.String(), required=True, metadata={"description": "Empty: all"})
    requests_per_minute = fields.Integer(required=True, allow_none=True, metadata={"description": "null: no limit"})
    tokens_per_minute = fields.Integer(required=True, allow_none=True, metadata={"description": "null: no limit"})
    weight = fields.Integer(required=True)
    created_at = fields.String(required=True)
    expires_at = fields.String(required=True, allow_none=True)
    revoked_at = fields.String(required=True, allow_none=True)
    rotated_at = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "When it got its present secret; null: when it was made"},
    )
    old_secret_until = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Until when the one before it holds; null: it does not"},
    )


class KeyWithLeftSchema(KeySchema):
    """A key, and what is left of its limits in this minute."""

    remaining_requests = fields.Integer(required=True, allow_none=True, metadata={"description": "null: no limit"})
    remaining_tokens = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "null: no limit. A request that runs takes what it may use at most"},
    )
    reset_s = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "Seconds until all is there again if no request comes; null: no limit"},
    )


class NewKeySchema(KeySchema):
    """A key with a new secret, which is never shown again."""

    secret = fields.String(required=True)


class RevokedKeySchema(KeySchema):
    """A key that was revoked."""

    cancelled_jobs = fields.Integer(required=True, metadata={"description": "Its jobs that had not ended"})


class KeyListSchema(Schema):
    """All keys, oldest first."""

    keys = fields.List(fields.Nested(KeyWithLeftSchema), required=True)

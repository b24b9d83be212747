"""Nodes as operators see and change them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from schemas.base.fields import StrictSchema, shown

#: What a label may be.
LABEL_KEY, LABEL_VALUE = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LABEL_RULE = "a label is KEY=VALUE, each of 1 to 63 letters, digits, '.', '_' and '-' (and '/' in the key)."
#: Labels of one node, and changes in one request.
MAX_LABELS = 64
STATES = ("ready", "draining", "cordoned", "gone")


class Labels(fields.Dict):
    """Labels by their keys; null removes one."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, Mapping) or len(value) > MAX_LABELS:
            raise ValidationError(f"Got {shown(value)}; must be an object of at most {MAX_LABELS} labels.")
        for key, label in value.items():
            good = label is None or (isinstance(label, str) and re.fullmatch(LABEL_VALUE, label))
            if not re.fullmatch(LABEL_KEY, key) or not good:
                raise ValidationError(f"Got {shown({key: label})}; {LABEL_RULE} null removes one.")
        return dict(value)


class NodeChangeSchema(StrictSchema):
    """What to change of a node."""

    labels = Labels(
        required=True,
        keys=fields.String(),
        values=fields.String(allow_none=True),
        metadata={"description": "Labels to set; null removes one"},
    )


class HoldQuerySchema(StrictSchema):
    """What of a node takes no new replicas, or takes some again."""

    device = fields.String(load_default="", metadata={"description": "One of its devices; else all of it"})


class DrainQuerySchema(HoldQuerySchema):
    """Query of a drain."""

    force = fields.Boolean(
        load_default=False, metadata={"description": "Unload what fits nowhere else, too; it is no longer served then"}
    )


class NodeDeviceSchema(Schema):
    """A device of a node, as its agent was last seen. Memory is in bytes."""

    device = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    alive = fields.Boolean(required=True)
    hardware = fields.String(required=True)
    memory_bytes = fields.Integer(required=True)
    memory_free_bytes = fields.Integer(required=True)
    engines = fields.List(fields.String(), required=True)


class NodeReplicaSchema(Schema):
    """A replica that a node has, or should have."""

    replica_id = fields.String(required=True)
    model_id = fields.String(required=True)
    device = fields.String(required=True)
    status = fields.String(
        required=True, metadata={"description": "Its health; asleep or failed; missing: it should be there, and is not"}
    )
    sequences = fields.Integer(required=True, metadata={"description": "What it computes now"})


class NodeSchema(Schema):
    """A node."""

    name = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    version = fields.String(required=True, metadata={"description": "Of Headrace"})
    address = fields.String(required=True, metadata={"description": "From which it reaches Redis"})
    labels = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    first_seen = fields.String(required=True, allow_none=True)
    last_seen = fields.String(required=True, allow_none=True)
    devices = fields.List(fields.Nested(NodeDeviceSchema), required=True)
    replicas = fields.List(fields.Nested(NodeReplicaSchema), required=True)


class NodeListSchema(Schema):
    """All nodes, also those that are gone."""

    nodes = fields.List(fields.Nested(NodeSchema), required=True)


class ForgottenNodeSchema(Schema):
    """A node that was forgotten."""

    name = fields.String(required=True)
    dropped_replicas = fields.List(
        fields.String(), required=True, metadata={"description": "Replicas that it should have had, and nobody else"}
    )


class MovedModelSchema(Schema):
    """What becomes of a model's replicas on a node or device that is drained."""

    model_id = fields.String(required=True)
    outcome = fields.String(
        required=True,
        validate=validate.OneOf(("moving", "ending", "staying")),
        metadata={
            "description": "moving: a deployment brings them elsewhere, then they end; ending: others serve it, or "
            "`force`; staying: it fits nowhere else"
        },
    )
    deployment_id = fields.String(allow_none=True, required=True)
    reason = fields.String(allow_none=True, required=True, metadata={"description": "Why they don't move"})


class DrainSchema(Schema):
    """A node that is drained, or has a device that is."""

    node = fields.Nested(NodeSchema, required=True)
    models = fields.List(fields.Nested(MovedModelSchema), required=True)

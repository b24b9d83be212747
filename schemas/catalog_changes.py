"""Models that are added to the catalog by the API, as clients ask for them and see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from schemas.base.fields import Boolean, StrictSchema, Text
from schemas.catalog import ModelEntrySchema
from schemas.deployments import PlanSchema
from schemas.jobs import STATUSES


class ModelTableSchema(ModelEntrySchema):
    """Fields of a table `[models."ID"]`, those that are given; null stands for none."""

    class Meta:
        """Not the id."""

        exclude = ("id",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"partial": True, **kwargs})
        for each in self.fields.values():
            each.allow_none = True


@dataclass(frozen=True, kw_only=True)
class AddModelRequest:
    """A model to add: by a name, of which an agent finds out the rest, or by its whole table."""

    source: str = ""
    id: str = ""
    node: str = ""
    pull: bool = True
    dry_run: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)


class AddModelRequestSchema(StrictSchema):
    """Body of an addition."""

    source = Text(
        validate=validate.Length(1, 1024),
        metadata={
            "description": "OWNER/NAME of the hub, with @REVISION, :QUANTIZATION or /FILE.gguf if wanted; the path of "
            "a folder or GGUF file on the node; or an installed package"
        },
    )
    id = Text(validate=validate.Length(1, 128), metadata={"description": "Its id here; else one is made of the name"})
    node = Text(
        validate=validate.Length(1, 200),
        metadata={"description": "The node, or `node.device`, that looks it up and gets its files"},
    )
    pull = Boolean(load_default=True, metadata={"description": "Get its files now; else the first deployment does"})
    dry_run = Boolean(load_default=False, metadata={"description": "Only say what it is, and what it would take"})
    model = fields.Nested(
        ModelTableSchema,
        load_default=dict,
        metadata={"description": "Fields as in headrace.toml; they count more than what is found"},
    )

    @validates_schema
    def _complete(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("source") and not (data.get("id") and data.get("model")):
            text = "Missing; give a name to look up, or `id` and `model` as in headrace.toml."
            raise ValidationError({"source": [text]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AddModelRequest:
        given = {name: value for name, value in data.items() if value is not None}
        given["model"] = {name: value for name, value in given["model"].items() if value is not None}
        return AddModelRequest(**given)


class AdditionSchema(Schema):
    """An addition that has begun: a job, which `GET /jobs/{id}` shows and `DELETE` cancels."""

    job_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    name = fields.String(required=True, metadata={"description": "What was asked for"})
    location = fields.String(required=True)
    events_url = fields.String(required=True)


class RemovedModelSchema(Schema):
    """A model that is not in the catalog any more."""

    model_id = fields.String(required=True)
    unloading = fields.List(fields.String(), required=True, metadata={"description": "Nodes where it still ends"})
    files = fields.String(
        required=True, validate=validate.OneOf(("kept", "removing")), metadata={"description": "Downloaded ones"}
    )


class RemoveModelQuerySchema(StrictSchema):
    """Query of a removal."""

    files = fields.Boolean(load_default=False, metadata={"description": "Remove downloaded files, too"})


class FoundSchema(Schema):
    """What was found out about a model by its name."""

    source = fields.String(required=True)
    id = fields.String(required=True)
    entry = fields.Dict(required=True, metadata={"description": "Fields as in headrace.toml"})
    facts = fields.Dict(required=True, metadata={"description": "Format, architecture, licence, size and more"})
    memory_plan = fields.Nested(PlanSchema, required=True)
    alternatives = fields.List(fields.Dict(), required=True)
    warnings = fields.List(fields.String(), required=True)

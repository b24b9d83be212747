"""Deployments as clients ask for them and see them: dataclass and marshmallow schema side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marshmallow import Schema, fields, post_load, validate

from schemas.base.fields import Boolean, Integer, Items, Number, StrictSchema, Text, Word
from schemas.jobs import CANCELLING, STATUSES

#: `none` leaves the weights as the source has them.
QUANTIZATIONS = ("none", "bf16", "int8", "int4")
#: Nodes and replicas of one deployment.
MAX_REPLICAS = 64
#: The document's words for the states of a stage.
STAGE_STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """What to deploy, and how. Empty and 0 = not given."""

    model_type: str
    model_size: str = ""
    quantization: str = ""
    target_nodes: list[str] = field(default_factory=list)
    deployment_config: Mapping[str, Any] = field(default_factory=dict)
    replicas: int = 0
    dry_run: bool = False

    @property
    def model_id(self) -> str:
        """As the document makes it."""
        return f"{self.model_type}-{self.model_size}" if self.model_size else self.model_type

    def options(self) -> dict[str, Any]:
        """The whole `deployment_config`, with defaults."""
        return {**DEFAULTS, **{name: value for name, value in self.deployment_config.items() if value is not None}}

    def given(self) -> dict[str, Any]:
        """The fields that the job record keeps."""
        return {name: value for name, value in asdict(self).items() if value and name != "dry_run"}


#: Defaults of `deployment_config`; 0 = as the settings and the model say.
DEFAULTS: Mapping[str, Any] = {
    "max_batch_size": 0,
    "context_length": 0,
    "use_flash_attention": True,
    "use_kv_cache": True,
    "tensor_parallel_size": 1,
    "cpu_offload": False,
    "idle_unload_s": 0.0,
}


class DeploymentConfigSchema(StrictSchema):
    """How the engine is to run the model."""

    max_batch_size = Integer(1, 4096, metadata={"description": "Sequences that run at once"})
    context_length = Integer(
        1,
        10_000_000,
        metadata={
            "description": "Tokens of prompt and answer. Not set: the model's own, or as many as fit, with a warning"
        },
    )
    use_flash_attention = Boolean(allow_none=True, metadata={"description": "A preference; see `warnings`"})
    use_kv_cache = Boolean(allow_none=True, metadata={"description": "A preference; see `warnings`"})
    tensor_parallel_size = Integer(1, 64, metadata={"description": "Processes that share the weights"})
    cpu_offload = Boolean(allow_none=True, metadata={"description": "Keep weights in the host's memory"})
    idle_unload_s = Number(
        0, 10**9, metadata={"description": "Unload after so long without a request, until the next one; 0: never"}
    )


class DeployRequestSchema(StrictSchema):
    """Body of a deployment. The model is `{model_type}-{model_size}` of the catalog."""

    model_type = Text(required=True, validate=validate.Length(1, 200))
    model_size = Text(load_default="", validate=validate.Length(0, 100))
    quantization = Word(QUANTIZATIONS, allow_none=True, load_default=None)
    target_nodes = Items(
        Text(validate=validate.Length(1, 200)),
        most=MAX_REPLICAS,
        load_default=list,
        allow_none=True,
        metadata={"description": "Nodes, or `node.device`; one replica on each. Empty: where most memory is free"},
    )
    deployment_config = fields.Nested(DeploymentConfigSchema, load_default=dict, allow_none=True)
    replicas = Integer(1, MAX_REPLICAS, metadata={"description": "Replicas; one for each of target_nodes"})
    dry_run = Boolean(load_default=False, metadata={"description": "Only say what it would take"})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> DeployRequest:
        return DeployRequest(**{name: value for name, value in data.items() if value is not None})


class ScaleRequestSchema(StrictSchema):
    """How many replicas a model should have."""

    replicas = Integer(1, MAX_REPLICAS, required=True)


class PlanSchema(Schema):
    """What a deployment takes of one device, in bytes."""

    weights_bytes = fields.Integer(required=True)
    kv_cache_bytes = fields.Integer(required=True)
    workspace_bytes = fields.Integer(required=True)
    free_bytes = fields.Integer(required=True)
    kv_cache_full_bytes = fields.Integer(required=True)
    loading_bytes = fields.Integer(required=True)
    total_bytes = fields.Integer(required=True)
    fits = fields.Boolean(required=True)


class PlannedSchema(Schema):
    """What comes of the options. A plan is null where the size of the model is not known yet."""

    memory_plan = fields.Dict(
        keys=fields.String(), values=fields.Nested(PlanSchema, allow_none=True), metadata={"description": "By device"}
    )
    effective_config = fields.Dict(metadata={"description": "Options as they are in force"})
    warnings = fields.List(fields.String(), metadata={"description": "Preferences that can't be honoured, and why"})


class DeployAnswerSchema(PlannedSchema):
    """A deployment that has begun; or, with `dry_run`, what it would take."""

    deployment_id = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    model_id = fields.String(required=True)
    estimated_time = fields.String(metadata={"description": "Learned from earlier deployments; such as 12s or 5m"})
    progress_url = fields.String()
    created_at = fields.String()
    fits = fields.Boolean(
        allow_none=True,
        metadata={"description": "dry_run: whether every device has room; null while that is not known of one of them"},
    )
    alternatives = fields.List(fields.Dict(), metadata={"description": "dry_run: changes that would fit"})


class StageSchema(Schema):
    """A stage of a deployment."""

    name = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STAGE_STATUSES))
    progress = fields.Integer(metadata={"description": "0 to 100, while it is in progress"})
    units_done = fields.Integer(metadata={"description": "What it has of `units_total`, over all replicas"})
    units_total = fields.Integer(
        metadata={"description": "Bytes of a download, tensors and steps of loading, if that is known"}
    )
    duration = fields.String(metadata={"description": "Such as 10s, when it has ended"})


class LogLineSchema(Schema):
    """A log line of a deployment."""

    timestamp = fields.String(required=True)
    level = fields.String(required=True)
    message = fields.String(required=True)


class ReplicaFactsSchema(Schema):
    """What is known of one replica of a deployment."""

    replica_id = fields.String(required=True)
    node_id = fields.String(required=True)
    device = fields.String(required=True)
    status = fields.String(required=True)
    planned_bytes = fields.Integer(allow_none=True)
    measured_bytes = fields.Integer(allow_none=True, metadata={"description": "Resident memory after it was loaded"})


class DeploymentErrorSchema(Schema):
    """Why a deployment failed, and what to do about it."""

    reason = fields.String(required=True)
    message = fields.String(required=True)
    remedy = fields.String()
    log = fields.List(fields.String(), metadata={"description": "The last log lines"})


class DeploymentSummarySchema(Schema):
    """What the list says of a deployment."""

    deployment_id = fields.String(required=True)
    model_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))
    created_at = fields.String(required=True)
    started_at = fields.String(allow_none=True)
    finished_at = fields.String(allow_none=True)
    error = fields.Nested(DeploymentErrorSchema, allow_none=True)
    progress_url = fields.String(required=True)
    progress = fields.Integer(
        allow_none=True,
        required=True,
        metadata={"description": "0 to 100, by the time that stages take; in the list null once it has ended"},
    )
    current_stage = fields.String(
        allow_none=True, required=True, metadata={"description": "In the list null once it has ended"}
    )


class DeploymentDetailSchema(DeploymentSummarySchema, PlannedSchema):
    """How a deployment stands."""

    stages = fields.List(fields.Nested(StageSchema), required=True)
    logs = fields.List(fields.Nested(LogLineSchema), required=True)
    estimated_completion = fields.String(allow_none=True, required=True)
    replicas = fields.List(fields.Nested(ReplicaFactsSchema), required=True)
    on_demand = fields.Boolean(required=True, metadata={"description": "A request has loaded the model"})
    asked_by = fields.String(required=True, metadata={"description": "Id of the API key that asked for it"})
    events_url = fields.String(required=True)


class DeploymentListSchema(Schema):
    """Deployments, newest first."""

    deployments = fields.List(fields.Nested(DeploymentSummarySchema), required=True)


class DeploymentListQuerySchema(StrictSchema):
    """Query of the list."""

    status = Text(validate=validate.OneOf(STATUSES), load_default=None)
    model_id = Text(load_default=None)
    limit = fields.Integer(validate=validate.Range(1, 200), load_default=50)


class CancelledDeploymentSchema(Schema):
    """How a deployment stands after it was told to end."""

    deployment_id = fields.String(required=True)
    model_id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, CANCELLING)))


class UnloadedSchema(Schema):
    """A model whose replicas end."""

    model_id = fields.String(required=True)
    status = fields.String(required=True)
    nodes = fields.List(fields.String(), required=True)

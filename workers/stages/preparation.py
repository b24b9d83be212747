"""Preparation: are the files and the options right, and is there memory for it? Nothing is loaded yet."""

from __future__ import annotations

from dataclasses import asdict

from gateway.deployments.memory import Load, plan
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import InvalidRequest
from gateway.models.engines import SPECS, resolve
from workers.host.devices import installed_engines, look_at
from workers.sources import source_of
from workers.stages.base import BringUp


def run(up: BringUp) -> None:
    """Raises: DeploymentFailed."""
    wanted, model = up.wanted, up.model
    if model.engine not in installed_engines():
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"The engine {model.engine!r} is not installed on {wanted.node}: pip install 'headrace[worker]'.",
        )
    up.source = source_of(model, up.settings)
    footprint = up.source.inspect(is_cancelled=up.cancelled.is_set, log=up.say)
    up.report(1, 2)
    try:
        resolve(
            SPECS[model.engine],
            format=footprint.format,
            device=wanted.device,
            quantization=wanted.quantization or "none",
            tensor_parallel_size=wanted.tensor_parallel_size,
            cpu_offload=wanted.cpu_offload,
        )
    except InvalidRequest as error:
        bad = "quantization" in error.errors
        reason = FailureReason.BAD_QUANTIZATION if bad else FailureReason.UNSUPPORTED_OPTION
        raise DeploymentFailed(reason, error.message) from error
    found = plan(footprint, Load.of(model.engine, asdict(wanted)), look_at(wanted.device).memory_free)
    up.planned_bytes = found.total_bytes
    up.facts(planned_bytes=found.total_bytes)
    up.say(
        f"{model.id} on {wanted.node}.{wanted.device}: {found.total_bytes / 1e6:.0f} MB planned (weights "
        f"{found.weights_bytes / 1e6:.0f}, KV cache {found.kv_cache_bytes / 1e6:.0f}, workspace "
        f"{found.workspace_bytes / 1e6:.0f}), {found.loading_bytes / 1e6:.0f} MB while it is loaded, "
        f"{found.free_bytes / 1e6:.0f} MB free"
    )
    if not found.fits:
        raise DeploymentFailed(
            FailureReason.OUT_OF_MEMORY,
            f"It needs {found.peak_bytes / 1e9:.2f} GB, and {wanted.node}.{wanted.device} has "
            f"{found.free_bytes / 1e9:.2f} GB free.",
        )


def undo(up: BringUp) -> None:
    """It leaves nothing."""

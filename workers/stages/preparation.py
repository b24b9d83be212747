"""Preparation: checks the options, the files, and the memory. Loads nothing."""

from __future__ import annotations

from dataclasses import asdict, replace

from gateway.deployments.memory import Load, plan, require_a_sequence
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import InvalidRequest
from gateway.models.engines import SPECS, how_to_install, resolve
from workers.formats.files import Remembered
from workers.host.devices import describe_device, installed_engines
from workers.sources import source_of
from workers.sources.pump import run as run_apart
from workers.stages.base import Startup


def run(up: Startup) -> None:
    """Raises: DeploymentFailed."""
    model = up.model
    _require_installed(up, model.engine)
    up.source = source_of(model, up.settings)
    footprint = up.source.inspect(is_cancelled=up.cancelled.is_set, log=up.say)
    _require_installed(up, *SPECS[model.engine].needs(footprint.format))
    _require_servable(up, footprint.format)
    up.report(1, 2)
    up.spec = up.spec.in_full(model, up.settings.max_batch_size, footprint.context_length)
    spec = up.spec
    device = describe_device(spec.device)
    try:
        resolve(
            SPECS[model.engine],
            format=footprint.format,
            device=spec.device,
            quantization=spec.quantization,
            tensor_parallel_size=spec.tensor_parallel_size,
            cpu_offload=spec.cpu_offload,
        )
        load = replace(Load.from_config(model.engine, asdict(spec)), device_bytes=device.memory_total)
        require_a_sequence(footprint, load)
    except InvalidRequest as error:
        bad = "quantization" in error.errors
        reason = FailureReason.BAD_QUANTIZATION if bad else FailureReason.UNSUPPORTED_OPTION
        raise DeploymentFailed(reason, error.message) from error
    found = plan(footprint, load, device.memory_free)
    up.planned_bytes, up.kv_capacity_tokens = found.total_bytes, found.kv_capacity_tokens
    up.peak_bytes = found.peak_bytes
    up.facts(planned_bytes=found.total_bytes)
    up.say(
        f"{model.id} on {spec.node}.{spec.device}: {found.total_bytes / 1e6:.0f} MB planned (weights "
        f"{found.weights_bytes / 1e6:.0f}, KV cache {found.kv_cache_bytes / 1e6:.0f}, workspace "
        f"{found.workspace_bytes / 1e6:.0f}), {found.loading_bytes / 1e6:.0f} MB while it is loaded, "
        f"{found.free_bytes / 1e6:.0f} MB free"
    )
    if tool := SPECS[model.engine].exports.get(footprint.format):
        up.say(f"{tool} exports it when it is first loaded, which takes minutes for a large model")
    if found.kv_cache_bytes:
        sequences = found.kv_capacity_tokens / load.context_length
        up.say(f"KV cache: {found.kv_capacity_tokens} tokens, {sequences:.1f} sequences of {load.context_length}")
    if not found.fits and not replace(found, free_bytes=found.free_bytes + up.reclaimable_bytes()).fits:
        raise DeploymentFailed(
            FailureReason.OUT_OF_MEMORY,
            f"It needs {found.peak_bytes / 1e9:.2f} GB, and {spec.node}.{spec.device} has "
            f"{found.free_bytes / 1e9:.2f} GB free.",
        )


def _require_installed(up: Startup, *names: str) -> None:
    """Raises: DeploymentFailed, with the command that installs the first that is not."""
    here = installed_engines(up.settings.data_dir)
    if missing := next((name for name in names if name not in here), ""):
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{missing!r} is needed and not installed on {up.spec.node}: {how_to_install(missing)}.",
        )


def _require_servable(up: Startup, format: str) -> None:
    """What the files' headers tell of architecture, weights and tokenizer, before any weights are fetched or loaded.

    Raises:
        SourceFailed: the engine can't serve them.
    """
    source, engine = up.source, up.model.engine
    if source is None or not format:
        return
    # With the packages of engines, which a model without files does not need.
    from workers.lookup.judge import judge
    from workers.lookup.requirements import require_known, require_packed

    is_cancelled = up.cancelled.is_set
    files = source.files(is_cancelled=is_cancelled, log=up.say)
    judged = run_apart(lambda: judge(Remembered(files), engine, format), is_cancelled)
    require_packed(SPECS[engine], up.spec.device, judged.description)
    if not source.present():
        require_known(engine, format, judged.description)


def undo(up: Startup) -> None:
    """Nothing to undo."""

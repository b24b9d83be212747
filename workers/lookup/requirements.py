"""What an engine asks of a model's files: the architecture, the types of its weights. Asked before a download."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from gateway.deployments.reasons import DeploymentFailed, FailureReason, SourceFailed
from gateway.models.devices import DeviceName
from gateway.models.engines import SPECS, EngineSpec
from gateway.process.environment import public
from workers.engines.failures import LoadFailed
from workers.engines.pytorch.model_types import ModelTypes, ask_model_types
from workers.formats.description import Description
from workers.sources.model_footprint import DAMAGED, shown

#: The engine whose models make vectors.
ENCODERS = "embedding"
#: What to do with a model that an engine does not serve in a format.
_OTHERWISE = {
    "gguf": "Take the model as safetensors or OpenVINO IR.",
    "safetensors": "Serve it with another engine, or take the model as OpenVINO IR.",
}


class OtherWeights(SourceFailed):
    """The engine does not read weights of this type; another file of the same model may have others."""


def unsupported(text: str) -> SourceFailed:
    """The error for a model that no change of options helps."""
    return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)


@contextmanager
def reading() -> Iterator[None]:
    """Context of reading files of others: whatever goes wrong is their fault. Raises: SourceFailed."""
    try:
        yield
    except SourceFailed:
        raise
    except DeploymentFailed as error:
        raise SourceFailed(error.reason, error.message) from error
    except LoadFailed as error:
        raise SourceFailed(FailureReason(error.reason), str(error)) from error
    except DAMAGED as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"What describes the model is damaged: {shown(error)}.") from error


def require_read(spec: EngineSpec, format: str, description: Description) -> None:
    """Raises: SourceFailed for what the engine does not read; OtherWeights if only the weights' type is wrong."""
    what = description.architecture or description.model_type or format
    if not description.generates and spec.name != ENCODERS:
        raise unsupported(f"It does not continue text ({what}); the {spec.name} engine serves models that do.")
    known = spec.architectures.get(format, ())
    if known and (description.model_type not in known or description.num_experts):
        experts = " with experts" if description.num_experts else ""
        raise unsupported(
            f"The {spec.name} engine does not read the architecture {description.model_type}{experts} from {format}; "
            f"it reads {', '.join(known)}. {_OTHERWISE[format]}"
        )
    if format in spec.exports and description.packed_by:
        raise unsupported(
            f"The {spec.name} engine serves {format} of floats only, and these weights were packed by "
            f"{description.packed_by}. {_OTHERWISE[format]}"
        )
    types = spec.weight_types.get(format, ())
    others = sorted(description.matrix_types - set(types)) if types else []
    if others:
        raise OtherWeights(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"The {spec.name} engine does not read weights in {', '.join(others)} ({description.dtype}) from {format}; "
            f"it reads {', '.join(types)}, of which files in Q4_K_M, Q8_0 and F16 are made.",
        )


def require_packed(spec: EngineSpec, device: str, description: Description) -> None:
    """Raises: SourceFailed for weights that were packed in a way which the engine does not compute on this device."""
    how, kind = description.packed_by, DeviceName.parse(device).kind
    if not how:
        return
    kinds, package = spec.packed.get(how, ()), spec.packed_require.get(how)
    if kinds and kind not in kinds:
        raise unsupported(f"Its weights were packed by {how}: the {spec.name} engine computes them on {kinds[0]} only.")
    if spec.packed and not kinds:
        known = ", ".join(spec.packed)
        raise unsupported(f"Its weights were packed by {how}, and the {spec.name} engine computes those of {known}.")
    if package and not find_spec(package):
        others = [name for name, other in SPECS.items() if kind in other.packed.get(how, ())]
        instead = f", or the {' or the '.join(others)} engine" if others else ""
        raise unsupported(
            f"Its weights were packed by {how}: that takes the package {package} beside transformers{instead}."
        )


def require_known(engine: str, format: str, description: Description) -> None:
    """What transformers knows, which takes seconds to find out. An engine says the same when it begins to load. What
    one exports is in its table.

    Raises:
        SourceFailed: a kind of model that transformers does not know, or does not serve as the engine does.
    """
    if format != "safetensors" or format in SPECS[engine].exports:
        return
    try:
        types = _model_types()
    except LoadFailed:  # then it shows when the model is loaded
        return
    if description.model_type not in types.known:
        raise unsupported(
            f"transformers {types.version} does not know models of type {description.model_type!r}, and code that "
            "comes with a model is never run."
        )
    if engine != ENCODERS and description.model_type not in types.causal:
        raise unsupported(f"transformers {types.version} does not continue text with {description.model_type} models.")


@functools.cache
def _model_types() -> ModelTypes:
    """Raises: LoadFailed."""
    return ask_model_types(public(os.environ))

"""Whether an engine may take a job that must go on exactly, or not at all. Knows no run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.errors import GenerationFailed, InvalidRequest
from gateway.inference.exact_resume import FIELD, not_kept, require_32_bits
from gateway.jobs.resume_point import ResumePoint
from gateway.models.entry import Model
from workers.engines.base import EngineInfo


def require_exact(
    request: Mapping[str, Any], resume_point: ResumePoint | None, model: Model, engine: EngineInfo
) -> None:
    """Check a request, which has all defaults; `resume_point` as this worker reads it.

    Raises:
        InvalidRequest: the engine would not keep what is asked for. When the job was made, none may have been loaded.
        GenerationFailed: the answer was begun by another engine, or with other files.
    """
    if not request.get(FIELD):
        return
    if errors := not_kept(replace(model, engine=engine.name), request):
        raise InvalidRequest.of(errors)
    require_32_bits(model.id, request, [engine.effective])
    if changed := _changes(resume_point, engine) if resume_point else []:
        raise GenerationFailed(
            f"Since the answer was begun its {' and '.join(changed)} changed, so that it can't go on exactly, as was "
            "required. Send the request again.",
            reason="resume_not_exact",
        )


def _changes(resume_point: ResumePoint, engine: EngineInfo) -> list[str]:
    """What is not as it was when the answer was begun."""
    files = [resume_point.changed] if resume_point.changed else []
    weights = ["weights"] if resume_point.weights - {engine.weights_digest} else []
    return [*files, *weights, *(["engine"] if resume_point.engines - {engine.name} else [])]

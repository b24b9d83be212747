"""Makes a proposal for the catalog of what was chosen."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from gateway.models.facts import ModelFacts
from gateway.models.footprint import UNSTATED_CONTEXT
from schemas.catalog import RESERVED_FIRST, RESERVED_LAST
from workers.lookup.candidates import Candidate, candidates, is_common
from workers.lookup.choose import Choice
from workers.lookup.found import Found
from workers.lookup.places import Place
from workers.lookup.requirements import ENCODERS


def propose(place: Place, choices: Sequence[Choice]) -> Found:
    """The first choice that fits, or the smallest. Raises: SourceFailed if the disk has no room for it."""
    taken = next((one for one in choices if one.fit.plan.fits), min(choices, key=_peak))
    judged, fit, candidate = taken.judged, taken.fit, taken.candidate
    place.require_space(candidate.path, judged.names, judged.engine)
    others = [one.fit.as_alternative(source=place.source(one.candidate.path)) for one in choices if one is not taken]
    others += _other_files(place, taken, {one.candidate.path for one in choices})
    warnings = list(judged.warnings)
    if _sees(place, taken):
        warnings.append("It can look at pictures, but no engine gives it any yet: it serves text only.")
    if fit.context_length < judged.context_length:
        warnings.append(
            f"Of its context of {judged.context_length} tokens {fit.context_length} fit the device's free memory."
        )
    if fit.cache_tokens:
        warnings.append(
            f"Its KV cache has room for {fit.cache_tokens} tokens, since more does not fit: answers that need more "
            "together wait for each other."
        )
    if fit.quantization != "none":
        warnings.append(
            f"Its weights are made {fit.quantization} when it is loaded; as they are stored they don't fit."
        )
    if not fit.plan.fits:
        needs, free = (f"{size / 1e9:.2f} GB" for size in (fit.plan.peak_bytes, fit.plan.free_bytes))
        warnings.append(f"It does not fit: it needs {needs}, and {free} are free.")
    return Found(
        source=place.source(candidate.path),
        id=_proposed_id(place, candidate),
        entry=_entry(place, taken),
        facts=_facts(place, taken),
        plan=fit.plan,
        alternatives=[*others, *taken.fitting.alternatives(fit)],
        warnings=warnings,
    )


def _other_files(place: Place, taken: Choice, known: Collection[str]) -> list[dict[str, Any]]:
    """The same model in other GGUF files, as far as their names and sizes tell."""
    if taken.candidate.format != "gguf" or taken.candidate.path == place.path:
        return []
    return [
        taken.fitting.stored_in(place.sizes[one.path], floats=one.label == "F16").as_alternative(
            source=place.source(one.path)
        )
        for one in candidates(place.sizes, path=place.path)
        if is_common(one) and one.path not in known
    ]


def _entry(place: Place, taken: Choice) -> dict[str, Any]:
    judged, fit = taken.judged, taken.fit
    stored = judged.description.dtype.lower() if taken.candidate.format == "gguf" else ""
    entry: dict[str, Any] = {
        "name": place.title.rpartition("/")[2][:200],
        "capabilities": list(judged.capabilities),
        "source": place.source(taken.candidate.path),
        "engine": judged.engine,
        "quantization": stored if stored and fit.quantization == "none" else fit.quantization,
    }
    if fit.cache_tokens:
        entry["options"] = {"cache_tokens": fit.cache_tokens}
    if judged.engine == ENCODERS:
        limits = {"context_length": judged.context_length, "max_tokens": judged.context_length}
        return {**entry, **limits, **({"dimensions": judged.dimensions} if judged.dimensions else {})}
    # Else it is as the files say, and shorter where more does not fit.
    if judged.context_length != (judged.footprint.context_length or UNSTATED_CONTEXT):
        entry["context_length"] = fit.context_length
    return entry


def _sees(place: Place, taken: Choice) -> bool:
    """Whether it can look at pictures; beside a GGUF file another one has the part that does."""
    beside = taken.candidate.format == "gguf" and any("mmproj" in name.lower() for name in place.sizes)
    return taken.judged.description.vision or beside


def _facts(place: Place, taken: Choice) -> ModelFacts:
    judged, described = taken.judged, taken.judged.description
    return ModelFacts(
        format=taken.candidate.format,
        architecture=described.architecture or described.model_type,
        dtype=described.dtype,
        license=described.license or place.license,
        size_bytes=judged.size_bytes,
        num_parameters=judged.footprint.num_parameters,
        context_length=judged.context_length,
        vision=_sees(place, taken),
        tokenizer=judged.tokenizer,
        revision=place.revision,
        commit=place.commit,
    )


def _proposed_id(place: Place, candidate: Candidate) -> str:
    """The title; with what tells a GGUF file from others of its repository."""
    several = sum(name.endswith(".gguf") for name in place.sizes) > 1
    label = candidate.label or candidate.path.rpartition("/")[2].removesuffix(".gguf")
    text = f"{place.title}:{label}" if candidate.format == "gguf" and several and label else place.title
    return valid_id(text)


def valid_id(text: str) -> str:
    """A text as an id that the catalog takes."""
    cleaned = re.sub(r"[^A-Za-z0-9._:/@+-]+", "-", text)
    parts = [part.lstrip("._:@+-") for part in cleaned.split("/")]
    kept = [part for part in parts if part] or ["model"]
    if kept[0] in RESERVED_FIRST:
        kept = ["models", *kept]
    found = "/".join(kept)[:128].rstrip("/")
    return f"{found[:124]}-1" if found.split("/")[-1] in RESERVED_LAST else found


def _peak(one: Choice) -> int:
    return one.fit.plan.peak_bytes

"""Looks a model up by its name: where it lies, which of its files are taken, and how this device would serve it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from gateway.cluster.registry import Device
from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.engines import SPECS, spec_of
from gateway.models.facts import ModelFacts
from gateway.models.names import HubName, ModelName, parse_name
from gateway.settings import Settings
from schemas.catalog import RESERVED_FIRST, RESERVED_LAST
from schemas.sources import FolderRef
from workers.formats.files import Remembered
from workers.lookup.candidates import Candidate, candidates, readable
from workers.lookup.fitting import Fit, Fitting
from workers.lookup.found import Found
from workers.lookup.judge import ENCODERS, Judged, judge, reading
from workers.lookup.places import Place, folder_place, package_place
from workers.sources.base import Log, keep_quiet, never
from workers.sources.retry import Limits

#: GGUF files of one repository whose headers are read, at most.
MAX_HEADERS = 6
#: Refusals in one error.
MAX_REFUSALS = 3


@dataclass(frozen=True)
class Choice:
    """One model, how an engine would serve it, and how that fits the device."""

    candidate: Candidate
    judged: Judged
    fitting: Fitting
    fit: Fit


def look_up(
    name: str,
    *,
    settings: Settings,
    device: Device,
    revision: str = "",
    engine: str = "",
    is_cancelled: Callable[[], bool] = never,
    log: Log = keep_quiet,
    limits: Limits | None = None,
) -> Found:
    """What a name means on this node, and how its model would be served on the device. Downloads no weights.

    `revision` is a branch, tag or commit for names that have none; an empty `engine` is chosen.

    Raises:
        SourceFailed: CANCELLED; there is no such model, it can't be reached or read, or nothing here could serve it.
            The text is one line that says what to do.
    """
    place = _place(_parsed(name, revision), settings, limits or Limits(), is_cancelled, log)
    with reading():
        choices = _choices(place, device, engine, settings)
    taken = next((one for one in choices if one.fit.plan.fits), min(choices, key=_peak))
    return _found(place, taken, choices)


def _parsed(name: str, revision: str) -> ModelName:
    """Raises: SourceFailed."""
    host = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
    try:
        parsed = parse_name(name, hosts=(host,) if host else ())
    except ValueError as error:
        raise SourceFailed(FailureReason.MISSING_FILE, f"{error}.") from error
    if not revision:
        return parsed
    if not isinstance(parsed, HubName):
        raise SourceFailed(FailureReason.MISSING_FILE, f"{name} has no revisions: only repositories of the hub do.")
    if parsed.revision and parsed.revision != revision:
        raise SourceFailed(
            FailureReason.MISSING_FILE, f"{name} names the revision {parsed.revision}, and not {revision}."
        )
    return replace(parsed, revision=revision)


def _place(name: ModelName, settings: Settings, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> Place:
    """Raises: SourceFailed."""
    if isinstance(name, FolderRef):
        return folder_place(name)
    if not isinstance(name, HubName):
        return package_place(name)
    from workers.lookup.hub_place import hub_place

    return hub_place(name, settings=settings, limits=limits, is_cancelled=is_cancelled, log=log)


def _choices(place: Place, device: Device, engine: str, settings: Settings) -> list[Choice]:
    """What could be served, the preferred one first: of one format and engine. Raises: SourceFailed if nothing."""
    there = candidates(place.sizes, path=place.path, quantization=place.quantization)
    refusals: list[SourceFailed] = []
    for name in _engines(device, engine):
        for of_format in _by_format(readable(there, name)):
            if found := list(_judged(place, of_format, name, device, settings, refusals)):
                return found
    raise _refused(there, device, engine, refusals)


def _judged(
    place: Place,
    of_format: Sequence[Candidate],
    engine: str,
    device: Device,
    settings: Settings,
    refusals: list[SourceFailed],
) -> Iterator[Choice]:
    """The candidates that the engine can serve, up to the first that fits. Why not the others goes into `refusals`."""
    for candidate in of_format[:MAX_HEADERS]:
        try:
            judged = judge(Remembered(place.open(candidate.path)), engine, candidate.format)
        except SourceFailed as error:
            if error.reason is FailureReason.CANCELLED:
                raise
            refusals.append(error)
            continue
        fitting = Fitting(
            judged.footprint,
            engine=engine,
            device=device,
            max_batch_size=settings.max_batch_size,
            context_length=judged.context_length,
            quantizations=judged.quantizations,
        )
        choice = Choice(candidate, judged, fitting, fitting.best())
        yield choice
        if choice.fit.plan.fits:
            return


def _engines(device: Device, wanted: str) -> list[str]:
    """Those that are installed there and run on the device. Raises: SourceFailed for one that does not."""
    if not wanted:
        return [name for name, spec in SPECS.items() if _runs(device, name) and not spec.weightless]
    try:
        spec = spec_of(wanted)
    except ValueError as error:
        raise SourceFailed(FailureReason.UNSUPPORTED_OPTION, str(error)) from error
    if wanted not in device.engines:
        raise _missing(device, [wanted])
    if device.kind not in spec.devices:
        raise SourceFailed(
            FailureReason.UNSUPPORTED_OPTION,
            f"The {wanted} engine runs on {', '.join(spec.devices)}, and {device.name} is none of them.",
        )
    return [wanted]


def _runs(device: Device, engine: str) -> bool:
    return engine in device.engines and device.kind in SPECS[engine].devices


def _missing(device: Device, engines: Sequence[str]) -> SourceFailed:
    return SourceFailed(
        FailureReason.UNSUPPORTED_ARCHITECTURE,
        f"The {' or '.join(engines)} engine is needed and not installed on {device.node}: "
        "pip install 'headrace[worker]'.",
    )


def _by_format(found: Sequence[Candidate]) -> list[list[Candidate]]:
    formats = dict.fromkeys(one.format for one in found)
    return [[one for one in found if one.format == format] for format in formats]


def _refused(there: Sequence[Candidate], device: Device, engine: str, refusals: Sequence[SourceFailed]) -> SourceFailed:
    """Why none of them can be served."""
    formats = list(dict.fromkeys(one.format for one in there))
    if not refusals:
        readers = [name for name, spec in SPECS.items() if set(spec.formats) & set(formats)]
        if engine:
            text = f"The {engine} engine reads {', '.join(spec_of(engine).formats)}, and there is {', '.join(formats)}."
            return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)
        missing = [name for name in readers if name not in device.engines and device.kind in SPECS[name].devices]
        if missing:
            return _missing(device, missing)
        text = f"{', '.join(formats)} is read by {', '.join(readers)}, which do not run on {device.name}."
        return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)
    texts = list(dict.fromkeys(error.message for error in refusals))[:MAX_REFUSALS]
    return SourceFailed(refusals[0].reason, " ".join(texts))


def _found(place: Place, taken: Choice, choices: Sequence[Choice]) -> Found:
    judged, fit, candidate = taken.judged, taken.fit, taken.candidate
    place.require_space(place.source(candidate.path), judged.footprint.weights_bytes)
    others = [one.fit.as_alternative(source=place.source(one.candidate.path)) for one in choices if one is not taken]
    warnings = list(judged.warnings)
    if fit.context_length < judged.context_length:
        warnings.append(
            f"Of its context of {judged.context_length} tokens {fit.context_length} fit the device's free memory."
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


def _entry(place: Place, taken: Choice) -> dict[str, Any]:
    judged, fit = taken.judged, taken.fit
    stored = judged.description.dtype.lower() if taken.candidate.format == "gguf" else "none"
    entry: dict[str, Any] = {
        "name": place.title.rpartition("/")[2][:200],
        "capabilities": list(judged.capabilities),
        "source": place.source(taken.candidate.path),
        "engine": judged.engine,
        "quantization": stored if fit.quantization == "none" else fit.quantization,
    }
    if judged.engine == ENCODERS:
        limits = {"context_length": judged.context_length, "max_tokens": judged.context_length}
        return {**entry, **limits, "dimensions": judged.dimensions}
    # Else it is as the files say, and shorter where more does not fit.
    if judged.context_length != judged.footprint.context_length:
        entry["context_length"] = fit.context_length
    return entry


def _facts(place: Place, taken: Choice) -> ModelFacts:
    judged, described = taken.judged, taken.judged.description
    return ModelFacts(
        format=taken.candidate.format,
        architecture=described.architecture or described.model_type,
        dtype=described.dtype,
        license=described.license or place.license,
        size_bytes=judged.footprint.weights_bytes,
        num_parameters=judged.footprint.num_parameters,
        context_length=judged.context_length,
        vision=described.vision,
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

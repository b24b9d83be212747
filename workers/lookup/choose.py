"""Chooses which of a place's models is taken, and with which engine: the first that can be served and that fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.cluster.registry import Device
from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.engines import SPECS, how_to_install, spec_of
from workers.formats.files import Remembered
from workers.lookup.candidates import Candidate, candidates, readable
from workers.lookup.fitting import Fit, Fitting
from workers.lookup.judge import Judged, judge
from workers.lookup.places import Place
from workers.lookup.requirements import OtherWeights, require_known, require_packed

#: GGUF files of one repository whose headers are read, at most.
MAX_HEADERS = 6
#: Refusals in one error.
MAX_REFUSALS = 3
#: After these failures no other candidate is tried.
_NOT_ITS_FAULT = (FailureReason.CANCELLED, FailureReason.SOURCE_UNREACHABLE)


@dataclass(frozen=True)
class Choice:
    """One model, how an engine would serve it, and how that fits the device."""

    candidate: Candidate
    judged: Judged
    fitting: Fitting
    fit: Fit


def choices(place: Place, device: Device, engine: str, max_batch_size: int) -> list[Choice]:
    """What could be served, the preferred one first, up to the first that fits.

    Raises:
        SourceFailed: nothing could be; the text says why.
    """
    there = candidates(place.sizes, path=place.path, quantization=place.quantization)
    found: list[Choice] = []
    refusals: list[SourceFailed] = []
    for name in engines_for(device, engine):
        for of_format in _by_format(readable(there, name, device.engines)):
            for candidate, judged in _judged(place, of_format, name, device, refusals):
                found.append(_fitted(candidate, judged, device, max_batch_size))
                if found[-1].fit.plan.fits:
                    return found
    if not found:
        raise _refused(there, device, engine, refusals)
    return found


def _judged(
    place: Place, of_format: Sequence[Candidate], engine: str, device: Device, refusals: list[SourceFailed]
) -> Iterator[tuple[Candidate, Judged]]:
    """The candidates that the engine can serve. Why not the others goes into `refusals`."""
    for candidate in of_format[:MAX_HEADERS]:
        try:
            judged = judge(Remembered(place.open(candidate.path)), engine, candidate.format)
            require_packed(spec_of(engine), device.device, judged.description)
            require_known(engine, candidate.format, judged.description)
            yield candidate, judged
        except SourceFailed as error:
            if error.reason in _NOT_ITS_FAULT:
                raise
            refusals.append(error)
            # All files of a repository are the same model.
            if error.reason is FailureReason.UNSUPPORTED_ARCHITECTURE and not isinstance(error, OtherWeights):
                return


def _fitted(candidate: Candidate, judged: Judged, device: Device, max_batch_size: int) -> Choice:
    fitting = Fitting(
        judged.footprint,
        engine=judged.engine,
        device=device,
        max_batch_size=max_batch_size,
        context_length=judged.context_length,
        quantizations=judged.quantizations,
    )
    return Choice(candidate, judged, fitting, fitting.best())


def engines_for(device: Device, wanted: str = "") -> list[str]:
    """Those that are installed there and run on the device, the preferred one first.

    Raises: SourceFailed for one that does not.
    """
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
    ours_first = sorted(engines, key=lambda name: SPECS[name].is_apart)
    commands = " or ".join(dict.fromkeys(map(how_to_install, ours_first)))
    return SourceFailed(
        FailureReason.UNSUPPORTED_ARCHITECTURE,
        f"The {' or '.join(ours_first)} engine is needed and not installed on {device.node}: {commands}.",
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
            spec = spec_of(engine)
            text = f"The {engine} engine reads {', '.join(spec.formats)}, and there is {', '.join(formats)}."
            if lacks := next((spec.exports[format] for format in formats if format in spec.exports), ""):
                text += f" It serves that where {lacks} is installed: {how_to_install(lacks)}."
            return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)
        missing = [name for name in readers if name not in device.engines and device.kind in SPECS[name].devices]
        if missing:
            return _missing(device, missing)
        text = f"{' and '.join(formats)}: read by {', '.join(readers)}, but not on {device.name}."
        return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)
    texts = list(dict.fromkeys(error.message for error in refusals))[:MAX_REFUSALS]
    return SourceFailed(refusals[0].reason, " ".join(texts))

"""Which models the files of a place make, by their names alone, the preferred ones first. Reads none of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.engines import spec_of
from workers.formats.detect import GGUF_PART, OPENVINO_MODEL, PICKLES

#: In this order GGUF files are taken: the first that the engine reads and that fits. Others come behind, then those of
#: `_SELDOM`, which have types that no engine here reads.
PREFERRED = ("Q4_K_M", "Q4_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q6_K", "Q8_0", "F16")
_SELDOM = re.compile(r"I?Q[1235]_|IQ4|BF16|F32|MXFP4|NVFP4|TQ")
#: The part of a file's name that says how its weights are stored.
_LABEL = re.compile(r"(?<![A-Z0-9])(?:UD-)?(?:I?Q\d[A-Z0-9_]*|BF16|F16|FP16|F32|FP32|MXFP4[A-Z_]*|NVFP4|TQ\d_\d)")
_SPELLED = {"FP16": "F16", "FP32": "F32"}
#: GGUF files beside a model that are none by themselves.
_NO_MODELS = re.compile(r"mmproj|imatrix|adapter|-lora", re.IGNORECASE)
_SAFETENSORS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
#: The end of the name of a model in parts.
_PART_END = re.compile(r"-\d{5}-OF-\d{5}$")
#: Names in an error.
SHOWN = 12


@dataclass(frozen=True)
class Candidate:
    """One model: a folder, or one GGUF file; an empty path is the place itself."""

    format: str
    path: str
    #: Such as `Q4_K_M`, by the name of a GGUF file; empty if it does not say.
    label: str = ""


def candidates(sizes: Mapping[str, int], *, path: str = "", quantization: str = "") -> list[Candidate]:
    """What could be loaded, below `path`: a file or a folder. `quantization` is a part of a GGUF file's name.

    Raises:
        SourceFailed: there is nothing, or not what was asked for; or several folders, of which one must be named.
    """
    # The catalog could not name them.
    sizes = {name: size for name, size in sizes.items() if name.isprintable()}
    if path in sizes:
        sizes = {path: sizes[path]}
    elif path:
        below = {name: size for name, size in sizes.items() if name.startswith(f"{path}/")}
        if not below:
            near = difflib.get_close_matches(path, sizes, SHOWN, 0.0)
            raise SourceFailed(
                FailureReason.MISSING_FILE, f"There is no file or folder {path:.200}. There is {_some(near)}."
            )
        sizes = below
    files = _gguf_files(sizes)
    if quantization:
        return _of_one_model(_of_label(files, quantization))
    folders = _folders(sizes, path)
    if not folders and not files:
        raise _nothing(sizes)
    return folders + _of_one_model(files)


def readable(found: Sequence[Candidate], engine: str, tools: Collection[str] = ()) -> list[Candidate]:
    """Those in the formats that an engine serves with these tools, its preferred format first."""
    spec = spec_of(engine)
    formats = (*spec.formats, *(format for format, tool in spec.exports.items() if tool in tools))
    return sorted((one for one in found if one.format in formats), key=lambda one: formats.index(one.format))


def is_common(one: Candidate) -> bool:
    """Whether it is a GGUF file of a kind that is read."""
    return one.format == "gguf" and one.label in PREFERRED


def label_of(name: str) -> str:
    """How a GGUF file's weights are stored, by its name: `Q4_K_M`; empty if it does not say."""
    found = _LABEL.findall(name.rpartition("/")[2].upper())
    return _SPELLED.get(found[-1], found[-1]) if found else ""


def _gguf_files(sizes: Mapping[str, int]) -> list[Candidate]:
    names = [name for name in sizes if name.lower().endswith(".gguf") and not _NO_MODELS.search(name)]
    # Of a model in parts the first one stands for it, and is refused when it is looked at.
    first = [name for name in names if not (part := GGUF_PART.fullmatch(name)) or part[1] == "00001"]
    found = [Candidate("gguf", name, label_of(name)) for name in first]
    return sorted(found, key=lambda one: (*_rank(one), sizes[one.path], one.path))


def _rank(one: Candidate) -> tuple[bool, bool, int]:
    """The smallest is taken first."""
    known = PREFERRED.index(one.label) if one.label in PREFERRED else len(PREFERRED)
    return bool(GGUF_PART.fullmatch(one.path)), bool(_SELDOM.match(one.label.removeprefix("UD-"))), known


def _of_one_model(files: list[Candidate]) -> list[Candidate]:
    """Raises: SourceFailed if they are not all one model, by what stands before the label."""
    models = {_before_label(one.path) for one in files}
    if len(models) > 1:
        raise SourceFailed(
            FailureReason.MISSING_FILE,
            f"There are several models; name one of the files {_some([one.path for one in files])}.",
        )
    return files


def _before_label(path: str) -> str:
    """What a file's name says of its model."""
    name = path.rpartition("/")[2].upper().removesuffix(".GGUF")
    found = list(_LABEL.finditer(name))
    return (name[: found[-1].start()] if found else _PART_END.sub("", name)).rstrip("-._")


def _of_label(files: Sequence[Candidate], quantization: str) -> list[Candidate]:
    wanted = quantization.upper()
    exact = [one for one in files if one.label == wanted]
    found = exact or [one for one in files if wanted in one.path.rpartition("/")[2].upper()]
    if found:
        return found
    if not files:
        raise SourceFailed(
            FailureReason.MISSING_FILE,
            f"There is no GGUF file, so there is no {quantization}; leave `:{quantization}` out.",
        )
    raise SourceFailed(
        FailureReason.MISSING_FILE,
        f"There is no GGUF file in {quantization}. There is {_some([one.label or one.path for one in files])}.",
    )


def _folders(sizes: Mapping[str, int], path: str) -> list[Candidate]:
    """The folder itself if it has a model, else those in it. Raises: SourceFailed if there are several."""
    homes: dict[str, list[str]] = {}
    for name in sorted(sizes):
        folder, _, file = name.rpartition("/")
        format = _format_of(file)
        if format and format not in homes.setdefault(folder, []):
            homes[folder].append(format)
    homes = {folder: formats for folder, formats in homes.items() if formats}
    if path in homes:
        return [Candidate(format, path) for format in homes[path]]
    if len(homes) > 1:
        raise SourceFailed(
            FailureReason.MISSING_FILE, f"There are several models; name one of the folders {_some(list(homes))}."
        )
    return [Candidate(format, folder) for folder, formats in homes.items() for format in formats]


def _format_of(file: str) -> str:
    if file == OPENVINO_MODEL:
        return "openvino"
    return "safetensors" if _SAFETENSORS.fullmatch(file) else ""


def _nothing(sizes: Mapping[str, int]) -> SourceFailed:
    if pickles := [name for name in sizes if name.endswith(PICKLES)]:
        return SourceFailed(
            FailureReason.UNSAFE_FILE,
            f"There is nothing to read but {_some(pickles)}, which may run code when read. Take a repository with "
            "safetensors, GGUF or OpenVINO IR files.",
        )
    others = f"There is {_some(list(sizes))}." if sizes else "There are no files."
    return SourceFailed(
        FailureReason.MISSING_FILE,
        f"There is no model.safetensors, {OPENVINO_MODEL} or GGUF file (an adapter alone is no model). {others}",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"{name:.100}" for name in names[:SHOWN]) + more

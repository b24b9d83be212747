"""Tells the format of a model's files, and which of them hold weights, by names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.deployments.reasons import FailureReason, SourceFailed

#: In order of preference for a folder that has several.
FORMATS = ("safetensors", "openvino", "gguf")
#: Formats that can run code when they are read (pickle). A `.bin` with an `.xml` of the same name is OpenVINO's.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".h5", ".keras")
#: Files without weights that a model may need: text, JSON, and sentencepiece's protocol buffers.
COMPANIONS = (".json", ".jinja", ".txt", ".model")
#: Where transformers keeps chat templates besides the default one.
TEMPLATE_FOLDER = "additional_chat_templates"
SAFETENSORS_INDEX = "model.safetensors.index.json"
OPENVINO_MODEL = "openvino_model.xml"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
GGUF_PART = re.compile(r".*-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class Weights:
    """What a folder holds: a format, and the names of the files that hold its weights."""

    format: str
    files: Sequence[str]


def detect(
    names: Iterable[str], *, readable: Sequence[str] = (), is_file: bool = False, parts: Sequence[str] = ()
) -> Weights:
    """The format of a model with these files, paths relative to its folder. `readable` are the preferred formats.

    `parts`: the files that the index of a safetensors model names, if it has one. They may have any names.
    `is_file`: the source names this one file, not a folder. A GGUF file is a model by itself, and only if it is named:
    engines are given its path. Of the other formats they are given the folder.

    Raises:
        SourceFailed: UNSAFE_FILE if there are only files that may hold code, MISSING_FILE if there is nothing to read,
            part of it is missing, or it is not clear which file is meant.
    """
    here = sorted(name for name in names if "/" not in name)
    finders = _FILE_FINDERS if is_file else _FOLDER_FINDERS
    for name in dict.fromkeys((*readable, *FORMATS)):
        if name in finders and (files := finders[name](here, parts)):
            return Weights(name, files)
    raise _nothing(here)


def needed(names: Iterable[str], weights: Weights) -> list[str]:
    """The files of a model to download: weights, their descriptions and the tokenizer; no code, no pickles."""
    here = set(names)
    # The parts of a sentence encoder are described in folders of their own.
    deep = "modules.json" in here
    found = {name for name in here if name.endswith(COMPANIONS) and (deep or "/" not in name)}
    found |= {name for name in here if name.startswith(f"{TEMPLATE_FOLDER}/") and name.endswith(".jinja")}
    if weights.format == "openvino":
        graphs = {name.removesuffix(".xml") for name in here if name.endswith(".xml") and "/" not in name}
        found |= {f"{graph}{end}" for graph in graphs for end in (".xml", ".bin") if f"{graph}.bin" in here}
    return sorted(found | set(weights.files))


def _safetensors(here: Sequence[str], parts: Sequence[str]) -> list[str]:
    """`model.safetensors`, or all parts and their index: what transformers reads."""
    if "model.safetensors" in here:
        return ["model.safetensors"]
    if parts:
        if wrong := [name for name in parts if not name.endswith(".safetensors") or "/" in name]:
            raise SourceFailed(
                FailureReason.UNSAFE_FILE,
                f"{SAFETENSORS_INDEX} names {_some(wrong)}; allowed: files beside it, .safetensors.",
            )
        if missing := [name for name in parts if name not in here]:
            raise SourceFailed(
                FailureReason.MISSING_FILE, f"Of the model's {len(parts)} parts there is no {_some(missing)}."
            )
        return list(parts)
    shards = [(name, shard) for name in here if (shard := _SHARD.fullmatch(name))]
    if not shards:
        return []
    total = max(int(shard[2]) for _, shard in shards)
    wanted = [f"model-{i:05}-of-{total:05}.safetensors" for i in range(1, total + 1)]
    missing = [name for name in (*wanted, SAFETENSORS_INDEX) if name not in here]
    if missing:
        raise SourceFailed(FailureReason.MISSING_FILE, f"Of the model's {total} parts there is no {_some(missing)}.")
    return wanted


def _openvino(here: Sequence[str], parts: Sequence[str]) -> list[str]:
    if OPENVINO_MODEL not in here:
        return []
    weights = OPENVINO_MODEL.removesuffix(".xml") + ".bin"
    if weights not in here:
        raise SourceFailed(FailureReason.MISSING_FILE, f"There is {OPENVINO_MODEL}, but no {weights} beside it.")
    return [weights]


def _gguf(here: Sequence[str], parts: Sequence[str]) -> list[str]:
    files = [name for name in here if name.endswith(".gguf")]
    if files and (part := GGUF_PART.fullmatch(files[0])):
        raise SourceFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{files[0]} is one of {int(part[2])} parts. Join them (llama.cpp's gguf-split --merge) into one file.",
        )
    return files


_FOLDER_FINDERS = {"safetensors": _safetensors, "openvino": _openvino}
_FILE_FINDERS = {"gguf": _gguf}


def _nothing(here: Sequence[str]) -> SourceFailed:
    """The error for files of which none can be read."""
    if ggufs := [name for name in here if name.endswith(".gguf")]:
        return SourceFailed(
            FailureReason.MISSING_FILE,
            f"A GGUF file is a model by itself; name it at the end of the source: {_some(ggufs)}.",
        )
    if pickles := [name for name in here if name.endswith(PICKLES)]:
        return SourceFailed(
            FailureReason.UNSAFE_FILE,
            f"{_some(pickles)} may run code when read, and there is nothing else; allowed: {', '.join(FORMATS)}.",
        )
    others = f" There is {_some(here)}." if here else ""
    return SourceFailed(
        FailureReason.MISSING_FILE,
        f"There is no model.safetensors, {OPENVINO_MODEL} or GGUF file (an adapter alone is no model).{others}",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more

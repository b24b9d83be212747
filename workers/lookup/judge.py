"""What one model is to an engine: whether it can serve it, and what it can do. Reads headers and descriptions only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.models.engines import spec_of
from gateway.models.footprint import UNSTATED_CONTEXT, Footprint
from schemas.catalog import MOST_TOKENS
from workers.answers.described import has_place
from workers.answers.formats import call_format
from workers.engines.pytorch.pooling import read_modules
from workers.formats import gguf
from workers.formats.description import Description, describe
from workers.formats.detect import needed
from workers.formats.files import Files, read_optional, read_text
from workers.lookup.requirements import ENCODERS, reading, require_read, unsupported
from workers.sources.model_footprint import footprint_of, weights_of
from workers.tokenizers import folder
from workers.tokenizers import gguf as gguf_tokenizer
from workers.tokenizers.encoder import sentence_settings

#: A tokenizer's own limit below this is a setting for something else.
LEAST_CONTEXT = 512
#: Types of weights that are compressed already.
_COMPRESSED = ("i8", "u8", "i4", "u4", "nf4", "int8", "uint8", "f8")


@dataclass(frozen=True)
class Judged:
    """A model that an engine can serve, as far as its headers tell."""

    engine: str
    footprint: Footprint
    description: Description
    #: The files that are needed of it, and their bytes.
    names: Sequence[str]
    size_bytes: int
    capabilities: Sequence[str] = ()
    #: The kind of its tokenizer.
    tokenizer: str = ""
    #: The model's own context, in tokens.
    context_length: int = 0
    #: The engine's quantizations that can be made of it, the best answers first.
    quantizations: Sequence[str] = ("none",)
    #: Length of an encoder's vectors; else 0.
    dimensions: int = 0
    warnings: Sequence[str] = ()


def judge(files: Files, engine: str, format: str) -> Judged:
    """Raises: SourceFailed, UNSUPPORTED_ARCHITECTURE if the engine can't serve it, or what is wrong with its files."""
    with reading():
        weights = weights_of(files, readable=(format,))
        description = describe(files, weights)
        require_read(spec_of(engine), format, description)
        names = needed(files.sizes, weights)
        footprint = footprint_of(files, readable=(format,))
        footprint = replace(footprint, context_length=min(footprint.context_length, MOST_TOKENS))
        found = Judged(engine, footprint, description, names, sum(files.sizes[name] for name in names))
        found = replace(found, quantizations=_quantizations(found))
        if engine == ENCODERS or "modules.json" in files.sizes:
            return _encoder(found, files)
        tokenizer, templates = _text_of_gguf(files, names[0]) if format == "gguf" else _text_of_folder(files)
        return _generator(found, tokenizer, templates, stated=_stated(files))


def _quantizations(found: Judged) -> Sequence[str]:
    """Weights that are small already are not made smaller; and nothing is gained by 16 bits of 16."""
    if found.description.packed_by or found.description.dtype.startswith(_COMPRESSED):
        return ("none",)
    useless = ["bf16"] if found.footprint.bits_per_weight <= 16 else []
    # It is made in groups of 64 of a row.
    useless += ["int4"] if found.footprint.hidden_size % 64 else []
    offered = spec_of(found.engine).quantizations[found.footprint.format]
    return tuple(name for name in offered if name not in useless)


def _text_of_gguf(files: Files, name: str) -> tuple[str, Mapping[str, str]]:
    """The kind of its tokenizer, and its chat templates. Raises: DeploymentFailed."""
    header = gguf.read_header(files, name)
    gguf_tokenizer.require_known(header, name)
    return f"byte-level BPE ({header.get('tokenizer.ggml.pre')})", gguf_tokenizer.chat_templates(header)


def _text_of_folder(files: Files) -> tuple[str, Mapping[str, str]]:
    """The same of a folder. Raises: DeploymentFailed."""
    folder.require_byte_level(folder.read_tokenizer_json(files))
    return "byte-level BPE", folder.chat_templates(files, read_optional(files, "tokenizer_config.json"))


def _stated(files: Files) -> int:
    """The limit that a folder's tokenizer says, in tokens; 0 if it says none that makes sense."""
    found = read_optional(files, "tokenizer_config.json").get("model_max_length", 0)
    # transformers writes 10^30 for none.
    return int(found) if isinstance(found, int | float) and LEAST_CONTEXT <= found < 1 << 31 else 0


def _generator(found: Judged, tokenizer: str, templates: Mapping[str, str], *, stated: int) -> Judged:
    texts = list(templates.values())
    calls = ["tool_use"] if texts and has_place(texts) and call_format(texts) else []
    own = min(filter(None, (found.footprint.context_length, stated)), default=UNSTATED_CONTEXT)
    found = replace(
        found,
        capabilities=["chat", "completion", *calls] if texts else ["completion"],
        tokenizer=tokenizer,
        context_length=own,
    )
    return replace(found, warnings=[text for text, applies in _remarks(found) if applies])


def _remarks(found: Judged) -> Sequence[tuple[str, Any]]:
    """What to say, and whether it applies."""
    own, longer, described = found.context_length, found.footprint.context_length, found.description
    return (
        ("It has no chat template, so it serves completions only.", "chat" not in found.capabilities),
        (f"Its files do not say its context; {own} tokens are taken.", not longer and own == UNSTATED_CONTEXT),
        (
            f"tokenizer_config.json says {own} tokens and config.json {longer}: the smaller one is taken; set "
            "context_length for more.",
            longer > own,
        ),
        (
            f"It stretches positions for long texts, which the {found.engine} engine leaves out for GGUF: it "
            "understands these worse than it could as safetensors or OpenVINO IR.",
            found.engine == "openvino" and described.stretched,
        ),
        (
            "It is made into OpenVINO IR when it is first loaded, which takes minutes for a large one.",
            found.footprint.format in spec_of(found.engine).exports,
        ),
        (
            f"Its weights were packed by {described.packed_by}, which may need a package beside transformers; whether "
            "it is there shows when the model is loaded.",
            described.packed_by and not spec_of(found.engine).packed,
        ),
    )


def _encoder(found: Judged, files: Files) -> Judged:
    """Raises: SourceFailed, LoadFailed."""
    if found.engine != ENCODERS:
        raise unsupported(f"It makes vectors (modules.json); the {found.engine} engine makes text.")
    if "modules.json" not in files.sizes:
        raise unsupported(
            "There is no modules.json: the embedding engine reads folders of sentence-transformers, which say how a "
            "vector is made of the tokens."
        )
    read_modules(lambda name: json.loads(read_text(files, name)), "the model")
    parts = folder.read_tokenizer_json(files)
    settings = sentence_settings(files)
    limits = found.footprint.context_length, int(settings.get("max_seq_length") or 0), _stated(files)
    return replace(
        found,
        capabilities=["embedding"],
        tokenizer=f"{parts['model']['type']:.80}",
        context_length=min((limit for limit in limits if 0 < limit <= MOST_TOKENS), default=LEAST_CONTEXT),
        dimensions=found.footprint.hidden_size,
    )

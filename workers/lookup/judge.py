"""What one model is to an engine: whether it can serve it, and what it can do. Reads headers and descriptions only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason, SourceFailed
from gateway.models.engines import EngineSpec, spec_of
from gateway.models.footprint import UNSTATED_CONTEXT, Footprint
from workers.answers.described import has_place
from workers.answers.formats import call_format
from workers.engines.failures import LoadFailed
from workers.engines.pytorch.pooling import read_modules
from workers.formats.description import Description, describe
from workers.formats.files import Files, read_optional, read_text
from workers.formats.gguf import read_header
from workers.sources.model_footprint import DAMAGED, footprint_of, shown, weights_of
from workers.tokenizers.encoder import sentence_settings
from workers.tokenizers.folder import chat_templates, read_tokenizer_json, require_byte_level
from workers.tokenizers.gguf import chat_templates as gguf_templates
from workers.tokenizers.gguf import require_known

#: The engine whose models make vectors.
ENCODERS = "embedding"
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
    capabilities: tuple[str, ...]
    #: The kind of its tokenizer.
    tokenizer: str
    #: The model's own context, in tokens; never 0.
    context_length: int
    #: The engine's quantizations that can be made of it, the best answers first.
    quantizations: tuple[str, ...]
    #: Length of an encoder's vectors; else 0.
    dimensions: int = 0
    warnings: tuple[str, ...] = ()


def judge(files: Files, engine: str, format: str) -> Judged:
    """Raises: SourceFailed, UNSUPPORTED_ARCHITECTURE if the engine can't serve it, or what is wrong with its files."""
    with reading():
        weights = weights_of(files, readable=(format,))
        description = describe(files, weights)
        spec = spec_of(engine)
        _require_read(spec, format, description)
        footprint = footprint_of(files, readable=(format,))
        if "modules.json" in files.sizes or engine == ENCODERS:
            return _encoder(files, engine, footprint, description)
        if format == "gguf":
            (name,) = weights.files
            return _generator(engine, footprint, description, *_of_gguf(files, name), stated=0)
        return _generator(engine, footprint, description, *_of_folder(files), stated=_stated(files))


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


def _require_read(spec: EngineSpec, format: str, description: Description) -> None:
    """Raises: SourceFailed for an architecture or types of weights that the engine does not read."""
    known = spec.architectures.get(format, ())
    if not description.generates and spec.name != ENCODERS:
        raise _unsupported(
            f"It does not continue text ({description.architecture or format}); the {spec.name} engine serves models "
            "that do."
        )
    if known and description.architecture not in known:
        raise _unsupported(
            f"The {spec.name} engine does not read the architecture {description.architecture!r} from {format}; it "
            f"reads {', '.join(known)}. Take the model as safetensors, or as OpenVINO IR."
        )
    if known and description.num_experts:
        raise _unsupported(
            f"The {spec.name} engine does not read models of experts ({description.num_experts}) from {format}."
        )
    types = spec.weight_types.get(format, ())
    others = sorted(description.matrix_types - set(types)) if types else []
    if others:
        raise _unsupported(
            f"The {spec.name} engine does not read weights in {', '.join(others)} ({description.dtype}) from {format}; "
            f"it reads {', '.join(types)}: Q4_K_M, Q8_0 and F16 files are made of these."
        )


def _unsupported(text: str) -> SourceFailed:
    return SourceFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, text)


def _of_gguf(files: Files, name: str) -> tuple[str, Mapping[str, str]]:
    """The kind of its tokenizer, and its chat templates. Raises: DeploymentFailed."""
    header = read_header(files, name)
    cut = header.get("tokenizer.ggml.pre")
    require_known(header, name.rpartition("/")[2])
    return f"byte-level BPE ({cut})", gguf_templates(header)


def _of_folder(files: Files) -> tuple[str, Mapping[str, str]]:
    """Raises: DeploymentFailed."""
    require_byte_level(read_tokenizer_json(files))
    return "byte-level BPE", chat_templates(files, read_optional(files, "tokenizer_config.json"))


def _stated(files: Files) -> int:
    """The limit that the tokenizer says, in tokens; 0 if it says none that makes sense."""
    found = read_optional(files, "tokenizer_config.json").get("model_max_length", 0)
    # transformers writes 10^30 for none.
    return int(found) if isinstance(found, int | float) and LEAST_CONTEXT <= found < 1 << 31 else 0


def _generator(
    engine: str,
    footprint: Footprint,
    description: Description,
    tokenizer: str,
    templates: Mapping[str, str],
    *,
    stated: int,
) -> Judged:
    texts = list(templates.values())
    capabilities = ["chat", "completion"] if texts else ["completion"]
    if texts and has_place(texts) and call_format(texts):
        capabilities.append("tool_use")
    own = min(filter(None, (footprint.context_length, stated)), default=UNSTATED_CONTEXT)
    warnings = [text for text, applies in _remarks(engine, footprint, description, own, bool(texts)) if applies]
    return Judged(
        engine=engine,
        footprint=footprint,
        description=description,
        capabilities=tuple(capabilities),
        tokenizer=tokenizer,
        context_length=own,
        quantizations=_quantizations(engine, footprint, description),
        warnings=tuple(warnings),
    )


def _remarks(
    engine: str, footprint: Footprint, description: Description, own: int, chats: bool
) -> Sequence[tuple[str, Any]]:
    """What to say, and whether it applies."""
    longer = footprint.context_length
    return (
        ("It can look at pictures, but no engine here gives it any: it serves text only.", description.vision),
        ("It has no chat template, so it serves completions only.", not chats),
        (f"Its files do not say its context; {own} tokens are taken.", not longer and own == UNSTATED_CONTEXT),
        (
            f"tokenizer_config.json says {own} tokens and config.json {longer}; the smaller one is taken. Set "
            "context_length for more.",
            longer > own,
        ),
        (
            f"It stretches positions for long contexts, which the {engine} engine leaves out for GGUF: long texts "
            "are understood worse. Take it as safetensors or OpenVINO IR for these.",
            engine == "openvino" and description.stretched,
        ),
        (
            f"Its weights were packed by {description.packed_by}, which needs a package of its own beside "
            "transformers; whether it is there shows when the model is loaded.",
            description.packed_by,
        ),
    )


def _quantizations(engine: str, footprint: Footprint, description: Description) -> tuple[str, ...]:
    """Weights that are small already are not made smaller; and nothing is gained by 16 bits of 16."""
    offered = spec_of(engine).quantizations[footprint.format]
    if description.packed_by or description.dtype.startswith(_COMPRESSED):
        return ("none",)
    return tuple(
        name
        for name in offered
        if not (name == "bf16" and footprint.bits_per_weight <= 16)
        # It is made in groups of 64 of a row.
        and not (name == "int4" and footprint.hidden_size % 64)
    )


def _encoder(files: Files, engine: str, footprint: Footprint, description: Description) -> Judged:
    """Raises: SourceFailed, LoadFailed."""
    if engine != ENCODERS:
        raise _unsupported(f"It makes vectors (modules.json); the {engine} engine makes text.")
    if "modules.json" not in files.sizes:
        raise _unsupported(
            "There is no modules.json: the embedding engine reads folders of sentence-transformers, which say how "
            "a vector is made of the tokens."
        )
    read_modules(lambda name: json.loads(read_text(files, name)), "the model")
    parts = read_tokenizer_json(files)
    limits = footprint.context_length, int(sentence_settings(files).get("max_seq_length") or 0), _stated(files)
    context = min((limit for limit in limits if limit > 0), default=LEAST_CONTEXT)
    return Judged(
        engine=engine,
        footprint=footprint,
        description=description,
        capabilities=("embedding",),
        tokenizer=str(parts["model"]["type"])[:80],
        context_length=context,
        quantizations=_quantizations(engine, footprint, description),
        dimensions=footprint.hidden_size,
    )

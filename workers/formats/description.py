"""What a model's files say of it beside its size: architecture, types of its weights, license, whether it sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gguf

from workers.formats.config import generates, read_config
from workers.formats.detect import OPENVINO_MODEL, Weights
from workers.formats.files import Files
from workers.formats.gguf import architecture_of, read_header
from workers.formats.openvino import MAX_GRAPH_BYTES, read_graph
from workers.formats.safetensors import read_tensors

#: Safetensors' words for types of weights, in torch's words.
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "I8": "int8", "U8": "uint8"}
#: Parts of a configuration that a model has that can look at pictures.
_SEES = ("vision_config", "vision_tower", "visual", "image_token_id", "image_token_index", "mm_vision_tower")
#: Values of GGUF's `general.type` of files that are no model by themselves.
PARTS = ("adapter", "mmproj", "imatrix", "vocab")
#: The tensor of a GGUF file that says how positions are stretched (Llama 3.1).
ROPE_FACTORS = "rope_freqs.weight"
#: No license has a longer name.
MAX_NAME = 100


@dataclass(frozen=True)
class Description:
    """What a format's files say. Empty = not said."""

    #: A class such as `LlamaForCausalLM`; in GGUF a word such as `llama`.
    architecture: str = ""
    #: transformers' word for the kind of model; in GGUF the same as `architecture`.
    model_type: str = ""
    #: As most of the weights are stored.
    dtype: str = ""
    license: str = ""
    vision: bool = False
    #: It continues text.
    generates: bool = True
    #: How weights were packed by others: `gptq`, `awq`, `fp8`.
    packed_by: str = ""
    #: The types of its matrices, in GGUF.
    matrix_types: frozenset[str] = frozenset()
    #: In GGUF: experts, of which each token takes some; and whether positions are stretched for a longer context.
    num_experts: int = 0
    stretched: bool = False


def describe(files: Files, weights: Weights) -> Description:
    """Raises: SourceFailed, or one of the errors that a damaged file makes."""
    return _READERS[weights.format](files, weights)


def _folder(files: Files, weights: Weights, dtype: str) -> Description:
    config = read_config(files) if "config.json" in files.sizes else {}
    architectures = config.get("architectures") or [""]
    packed = config.get("quantization_config") or {}
    return Description(
        architecture=named(architectures[0]),
        model_type=named(config.get("model_type")),
        dtype=dtype,
        vision=any(name in config for name in _SEES),
        generates=generates(config, files),
        packed_by=named(packed.get("quant_method")),
    )


def _safetensors(files: Files, weights: Weights) -> Description:
    lengths: Counter[str] = Counter()
    for name in weights.files:
        for tensor in read_tensors(files, name):
            start, end = tensor["data_offsets"]
            lengths[named(tensor["dtype"])] += end - start
    most = max(lengths, key=lambda kind: lengths[kind], default="")
    return _folder(files, weights, _DTYPES.get(most, most.lower()))


def _openvino(files: Files, weights: Weights) -> Description:
    lengths = read_graph(files.read(OPENVINO_MODEL, length=MAX_GRAPH_BYTES)).bytes_by_type
    return _folder(files, weights, max(lengths, key=lambda kind: lengths[kind], default=""))


def _gguf(files: Files, weights: Weights) -> Description:
    (name,) = weights.files
    header = read_header(files, name)
    architecture = named(architecture_of(header, name))
    matrices: Counter[str] = Counter()
    for tensor in header.tensors:
        if tensor.num_dimensions > 1:
            matrices[tensor.kind] += tensor.num_bytes
    kind = header.get("general.type", "model")
    return Description(
        architecture=architecture,
        model_type=architecture,
        dtype=_file_type(header.get("general.file_type")) or max(matrices, key=lambda k: matrices[k], default=""),
        license=named(header.get("general.license")),
        generates=kind not in PARTS,
        matrix_types=frozenset(matrices),
        num_experts=int(header.get(f"{architecture}.expert_count", 0)),
        stretched=header.get(f"{architecture}.rope.scaling.type", "none") != "none"
        or any(tensor.name == ROPE_FACTORS for tensor in header.tensors),
    )


def _file_type(number: Any) -> str:
    """Such as `Q4_K_M`; empty for a number that means nothing."""
    try:
        return gguf.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return ""


def named(value: Any) -> str:
    """A name that files of others give; empty if it is none."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME else ""


_READERS: Mapping[str, Callable[[Files, Weights], Description]] = {
    "safetensors": _safetensors,
    "openvino": _openvino,
    "gguf": _gguf,
}

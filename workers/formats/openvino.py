"""OpenVINO IR: an XML graph whose constants say type, shape, and place in the `.bin` file beside it.

Its variables say what it keeps of each token.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, field
from xml.etree import ElementTree

from gateway.failures import FailureReason, SourceFailed
from gateway.formats import OPENVINO_MODEL, Weights
from gateway.memory import Footprint
from workers.formats.config import KV_NUMBER_BYTES, Shape, read_shape
from workers.formats.files import Files, cut_off

#: A longer graph is none.
MAX_GRAPH_BYTES = 256 << 20
#: Types of weights. Other constants, such as i64, are shapes and indices.
_WEIGHTS = ("f32", "f16", "bf16", "f8", "i8", "u8", "i4", "u4", "nf4", "u1", "u2")


@dataclass
class Graph:
    """What a graph says, added up over its layers."""

    num_parameters: int = 0
    #: How many of them are in matrices, by their shape.
    matrices: Counter[tuple[int, ...]] = field(default_factory=Counter)
    weight_bytes: int = 0
    #: Where the last constant ends in the `.bin` file.
    end: int = 0
    #: Numbers that the graph keeps from one run to the next, of one token.
    kept_numbers: int = 0
    vocabulary_size: int = 0


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    (name,) = weights.files
    size = files.sizes[name]
    graph = read_graph(files.read(OPENVINO_MODEL, length=MAX_GRAPH_BYTES))
    if size < graph.end:
        raise cut_off(name, size, graph.end)
    shape = read_shape(files) if "config.json" in files.sizes else Shape()
    vocabulary_size = shape.vocabulary_size or graph.vocabulary_size
    return Footprint(
        format="openvino",
        weights_bytes=size,
        num_parameters=graph.num_parameters,
        outer_parameters=sum(count for sizes, count in graph.matrices.items() if vocabulary_size in sizes),
        # What the graph really keeps goes before what is said of the model that it was made of.
        kv_bytes_per_token=graph.kept_numbers * KV_NUMBER_BYTES or shape.kv_bytes_per_token,
        hidden_size=shape.hidden_size,
        vocabulary_size=vocabulary_size,
        context_length=shape.context_length,
        bits_per_weight=round(8 * graph.weight_bytes / graph.num_parameters, 2) if graph.num_parameters else 0.0,
    )


def read_graph(content: bytes) -> Graph:
    """Raises: SourceFailed if it is not XML."""
    graph = Graph()
    try:
        for _, layer in ElementTree.iterparse(io.BytesIO(content)):
            if layer.tag == "layer":
                _LAYERS.get(layer.get("type", ""), _ignore)(graph, layer)
                layer.clear()
    except ElementTree.ParseError as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{OPENVINO_MODEL} is not valid XML: {error}.") from error
    return graph


def _ignore(graph: Graph, layer: ElementTree.Element) -> None:
    """Most layers say nothing of sizes."""


def _constant(graph: Graph, layer: ElementTree.Element) -> None:
    data = layer.find("data")
    if data is None or data.get("size") is None:
        return
    length = int(data.get("size", 0))
    graph.end = max(graph.end, int(data.get("offset", 0)) + length)
    if data.get("element_type", "").startswith(_WEIGHTS):
        shape = _numbers(data.get("shape"))
        graph.num_parameters += math.prod(shape)
        if len(shape) == 2:
            graph.matrices[tuple(shape)] += math.prod(shape)
        graph.weight_bytes += length


def _read_value(graph: Graph, layer: ElementTree.Element) -> None:
    """Keys or values of a layer, (B, heads, T, size of a head): B and T have no size before it runs."""
    data = layer.find("data")
    sizes = _numbers(data.get("variable_shape")) if data is not None else []
    if len(sizes) == 2:
        graph.kept_numbers += math.prod(sizes)


def _result(graph: Graph, layer: ElementTree.Element) -> None:
    """Logits, (B, T, vocabulary)."""
    sizes = [int(dim.text or 0) for dim in layer.findall("./input/port/dim")]
    if len(sizes) == 3 and sizes[-1] > 0:
        graph.vocabulary_size = sizes[-1]


def _numbers(shape: str | None) -> list[int]:
    """The sizes in a shape that are known."""
    return [int(size) for size in (shape or "").split(",") if size.strip().isdecimal()]


_LAYERS = {"Const": _constant, "ReadValue": _read_value, "Result": _result}

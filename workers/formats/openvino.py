"""OpenVINO IR: an XML graph whose constants have type, shape, and offset in the `.bin` file beside it.

Its variables show what it keeps of each token.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from xml.etree import ElementTree

from gateway.deployments.memory import KV_BYTES_PER_ELEMENT
from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.footprint import Footprint
from workers.formats.config import KV_ELEMENT_BYTES, Shape, read_shape
from workers.formats.detect import OPENVINO_MODEL, Weights
from workers.formats.files import Files, cut_off

#: Longest graph that is read; one of 70 billion parameters has some 10 MB.
MAX_GRAPH_BYTES = 128 << 20
MAX_DIMENSIONS = 16
#: Types of weights. Other constants, such as i64, are shapes and indices.
_WEIGHTS = ("f32", "f16", "bf16", "f8", "i8", "u8", "i4", "u4", "nf4", "u1", "u2")


@dataclass
class Graph:
    """Sums over the layers of a graph."""

    num_parameters: int = 0
    #: Parameters in matrices, by shape.
    matrices: Counter[tuple[int, ...]] = field(default_factory=Counter)
    weight_bytes: int = 0
    #: The same by their types, such as `i8`.
    bytes_by_type: Counter[str] = field(default_factory=Counter)
    #: Where the last constant ends in the `.bin` file.
    end: int = 0
    #: Elements that the graph keeps of one token from one run to the next: keys and values.
    kv_elements: int = 0
    vocabulary_size: int = 0
    #: The type for keys and values, if the graph sets one.
    kv_precision: str = ""


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
        # The graph's own state takes precedence over the configuration of its source model.
        kv_bytes_per_token=graph.kv_elements * KV_ELEMENT_BYTES or shape.kv_bytes_per_token,
        hidden_size=shape.hidden_size,
        vocabulary_size=vocabulary_size,
        context_length=shape.context_length,
        bits_per_weight=round(8 * graph.weight_bytes / graph.num_parameters, 2) if graph.num_parameters else 0.0,
        kv_precision=graph.kv_precision,
    )


def read_graph(content: bytes) -> Graph:
    """Raises: SourceFailed if it is not XML; ValueError for numbers that make no sense."""
    if len(content) >= MAX_GRAPH_BYTES:
        raise ValueError(f"{OPENVINO_MODEL} is longer than {MAX_GRAPH_BYTES} bytes")
    reader = _Reader()
    parser = ElementTree.XMLParser(target=reader)
    try:
        parser.feed(content)
        return cast(Graph, parser.close())
    except ElementTree.ParseError as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{OPENVINO_MODEL} is not valid XML: {error}.") from error


class _Reader:
    """A SAX-like reader that keeps no elements: a graph has a hundred thousand, a damaged one any number."""

    def __init__(self) -> None:
        self._graph = Graph()
        #: The type of the present layer.
        self._layer = ""
        #: The sizes of a result's port, and the text of the last one.
        self._sizes: list[int] = []
        self._text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag == "layer":
            self._layer, self._sizes = attributes.get("type", ""), []
        elif tag == "data" and self._layer == "Const":
            _constant(self._graph, attributes)
        elif tag == "data" and self._layer == "ReadValue":
            _read_value(self._graph, attributes)
        elif tag == "KV_CACHE_PRECISION" and attributes.get("value") in KV_BYTES_PER_ELEMENT:
            self._graph.kv_precision = attributes["value"]
        elif tag == "dim" and self._layer == "Result":
            self._text = []

    def data(self, text: str) -> None:
        """Text within an element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == "dim" and self._text is not None:
            self._sizes.append(int("".join(self._text) or 0))
            self._text = None
        elif tag == "layer":
            # Logits, (B, T, vocabulary).
            if self._layer == "Result" and len(self._sizes) == 3 and self._sizes[-1] > 0:
                self._graph.vocabulary_size = self._sizes[-1]
            self._layer = ""

    def close(self) -> Graph:
        """The sums over all elements."""
        return self._graph


def _constant(graph: Graph, data: Mapping[str, str]) -> None:
    if "size" not in data:
        return
    offset, length = int(data.get("offset", 0)), int(data["size"])
    if offset < 0 or length < 0:
        raise ValueError(f"a constant has {length} bytes at {offset}")
    graph.end = max(graph.end, offset + length)
    element_type = data.get("element_type", "")
    if element_type.startswith(_WEIGHTS):
        shape = _known_sizes(data.get("shape"))
        count = math.prod(shape)
        # The smallest have one bit.
        if count > 8 * length:
            raise ValueError(f"a constant of the shape {data.get('shape')} has {length} bytes")
        graph.num_parameters += count
        if len(shape) == 2:
            graph.matrices[tuple(shape)] += count
        graph.weight_bytes += length
        graph.bytes_by_type[element_type] += length


def _read_value(graph: Graph, data: Mapping[str, str]) -> None:
    """Keys or values of a layer, (B, heads, T, head size): B and T are unknown before it runs."""
    sizes = _known_sizes(data.get("variable_shape"))
    if len(sizes) == 2:
        graph.kv_elements += math.prod(sizes)


def _known_sizes(shape: str | None) -> list[int]:
    """The known sizes in a shape."""
    sizes = (shape or "").split(",", MAX_DIMENSIONS)
    return [int(size) for size in sizes if size.strip().isdecimal()]

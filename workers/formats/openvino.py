"""OpenVINO IR: an XML graph whose constants say type, shape, and place in the `.bin` file beside it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from xml.etree import ElementTree

from gateway.failures import FailureReason, SourceFailed
from gateway.formats import OPENVINO_MODEL, Weights
from gateway.memory import Footprint
from workers.formats.config import Shape, read_shape
from workers.formats.files import Files, cut_off

#: A longer graph is none.
MAX_GRAPH_BYTES = 256 << 20
#: Types of weights. Other constants, such as i64, are shapes and indices.
_WEIGHTS = ("f32", "f16", "bf16", "f8", "i8", "u8", "i4", "u4", "nf4", "u1", "u2")


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    (name,) = weights.files
    size = files.sizes[name]
    num_parameters = weight_bytes = end = 0
    for element_type, numbers, offset, length in _constants(files.read(OPENVINO_MODEL, length=MAX_GRAPH_BYTES)):
        end = max(end, offset + length)
        if element_type.startswith(_WEIGHTS):
            num_parameters += numbers
            weight_bytes += length
    if size < end:
        raise cut_off(name, size, end)
    shape = read_shape(files) if "config.json" in files.sizes else Shape()
    return Footprint(
        format="openvino",
        weights_bytes=size,
        num_parameters=num_parameters,
        bits_per_weight=round(8 * weight_bytes / num_parameters, 2) if num_parameters else 0.0,
        **vars(shape),
    )


def _constants(graph: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Type, count of numbers, offset and bytes of each. Raises: SourceFailed if it is not XML."""
    try:
        for _, layer in ElementTree.iterparse(io.BytesIO(graph)):
            if layer.tag != "layer":
                continue
            data = layer.find("data")
            if layer.get("type") == "Const" and data is not None and data.get("size") is not None:
                shape = [int(size) for size in (data.get("shape") or "").split(",") if size.strip()]
                place = int(data.get("offset", 0)), int(data.get("size", 0))
                yield data.get("element_type", ""), math.prod(shape), *place
            layer.clear()
    except ElementTree.ParseError as error:
        raise SourceFailed(FailureReason.CHECKSUM, f"{OPENVINO_MODEL} is not valid XML: {error}.") from error

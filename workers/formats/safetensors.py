"""Safetensors: each file begins with the length of a JSON header that names type, shape and place of each tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from gateway.failures import FailureReason, SourceFailed
from gateway.formats import Weights
from gateway.memory import Footprint
from workers.formats.config import read_shape
from workers.formats.files import Files, cut_off, read_json

#: Bytes of the length, and the most that the format allows for a header.
PREFIX_BYTES, MAX_HEADER_BYTES = 8, 100_000_000
#: Read at first: the length, and most headers.
FIRST_READ_BYTES = 1 << 17
#: Types that packed weights are stored in, where a configuration says how many bits one really has.
_PACKED_BITS = {"U8": 8, "I8": 8, "I32": 32, "U32": 32, "I64": 64}


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    shape = read_shape(files)
    stored_bits = _stored_bits(read_json(files, "config.json").get("quantization_config") or {})
    num_parameters = outer_parameters = tensor_bytes = 0
    for name in weights.files:
        for tensor in _tensors(files, name):
            start, end = tensor["data_offsets"]
            numbers = math.prod(tensor["shape"])
            if stored_bits and tensor["dtype"] in _PACKED_BITS:
                numbers = numbers * _PACKED_BITS[tensor["dtype"]] // stored_bits
            num_parameters += numbers
            if len(tensor["shape"]) == 2 and shape.vocabulary_size in tensor["shape"]:
                outer_parameters += numbers
            tensor_bytes += end - start
    return Footprint(
        format="safetensors",
        weights_bytes=sum(files.sizes[name] for name in weights.files),
        num_parameters=num_parameters,
        outer_parameters=outer_parameters,
        bits_per_weight=round(8 * tensor_bytes / num_parameters, 2) if num_parameters else 0.0,
        **vars(shape),
    )


def _tensors(files: Files, name: str) -> Iterator[dict[str, Any]]:
    """The entries of a header. Raises: SourceFailed if the file is cut off or no such file."""
    size = files.sizes[name]
    head = files.read(name, 0, FIRST_READ_BYTES)
    length = int.from_bytes(head[:PREFIX_BYTES], "little")
    if size < PREFIX_BYTES or not 2 <= length <= MAX_HEADER_BYTES:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is not a safetensors file, or its beginning is damaged.")
    begin = PREFIX_BYTES + length
    if begin > size:
        raise cut_off(name, size, begin)
    if begin > len(head):
        head += files.read(name, len(head), begin - len(head))
    header = json.loads(head[PREFIX_BYTES:begin])
    tensors = [tensor for key, tensor in header.items() if key != "__metadata__"]
    end = begin + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
    if size < end:
        raise cut_off(name, size, end)
    yield from tensors


def _stored_bits(quantization: dict[str, Any]) -> int:
    """Bits of a packed weight; 0 if it is not told."""
    if quantization.get("load_in_4bit"):
        return 4
    return int(quantization.get("bits") or quantization.get("w_bit") or 0)

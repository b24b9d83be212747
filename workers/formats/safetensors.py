"""Safetensors: each file begins with the length of a JSON header that has type, shape and offsets of each tensor."""

from __future__ import annotations

import json
import math
from typing import Any

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.footprint import Footprint
from workers.formats.config import read_shape
from workers.formats.detect import Weights
from workers.formats.files import Files, cut_off, read_json

#: Bytes of the length field, and of the longest header that is read: the format allows 100 MB, models have under 10.
PREFIX_BYTES, MAX_HEADER_BYTES = 8, 32 << 20
#: Bytes read first: enough for most headers.
FIRST_READ_BYTES = 1 << 17
MAX_DIMENSIONS = 16
#: Bits of one element by type; tensors of other types are not checked.
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64}
#: Types in which packed weights are stored; the configuration has their real number of bits.
_PACKED_BITS = {"U8": 8, "I8": 8, "I32": 32, "U32": 32, "I64": 64}


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    shape = read_shape(files)
    stored_bits = _stored_bits(read_json(files, "config.json").get("quantization_config") or {})
    num_parameters = outer_parameters = tensor_bytes = 0
    for name in weights.files:
        for tensor in read_tensors(files, name):
            start, end = tensor["data_offsets"]
            elements = math.prod(tensor["shape"])
            if stored_bits and tensor["dtype"] in _PACKED_BITS:
                elements = elements * _PACKED_BITS[tensor["dtype"]] // stored_bits
            num_parameters += elements
            if len(tensor["shape"]) == 2 and shape.vocabulary_size in tensor["shape"]:
                outer_parameters += elements
            tensor_bytes += end - start
    return Footprint(
        format="safetensors",
        weights_bytes=sum(files.sizes[name] for name in weights.files),
        num_parameters=num_parameters,
        outer_parameters=outer_parameters,
        bits_per_weight=round(8 * tensor_bytes / num_parameters, 2) if num_parameters else 0.0,
        **vars(shape),
    )


def read_tensors(files: Files, name: str) -> list[dict[str, Any]]:
    """The entries of a header. Raises: SourceFailed if the file is cut off or no such file; ValueError and the like."""
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
    end = begin + _end(tensors)
    if size < end:
        raise cut_off(name, size, end)
    return tensors


def _end(tensors: list[dict[str, Any]]) -> int:
    """Where the last tensor ends. Raises: ValueError if a length does not match its shape, or tensors overlap."""
    end = 0
    for begin, stop, tensor in sorted((*tensor["data_offsets"], i) for i, tensor in enumerate(tensors)):
        dtype, shape = tensors[tensor]["dtype"], tensors[tensor]["shape"]
        if (
            not all(type(number) is int and number >= 0 for number in (begin, stop, *shape))
            or len(shape) > MAX_DIMENSIONS
        ):
            raise ValueError(f"a tensor has the shape {str(shape)[:100]} at {str(begin)[:100]}")
        bits = math.prod(shape) * _BITS.get(dtype, 0)
        if begin != end or stop < begin or (bits and (stop - begin) * 8 != bits):
            raise ValueError(f"a tensor of {dtype} and the shape {shape} lies from {begin} to {stop}, behind {end}")
        end = stop
    return end


def _stored_bits(quantization: dict[str, Any]) -> int:
    """Bits of a packed weight; 0 if unknown."""
    if quantization.get("load_in_4bit"):
        return 4
    groups = (quantization.get("config_groups") or {}).values()
    of_groups = [(group.get("weights") or {}).get("num_bits") or 0 for group in groups]
    return int(quantization.get("bits") or quantization.get("w_bit") or max(of_groups, default=0))

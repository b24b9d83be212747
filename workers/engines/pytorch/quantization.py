"""Weights of a transformers model in int8 or int4, through torchao. Embeddings and the head stay in bfloat16.

Measured in docs/engines.md against the alternatives.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import torch

from workers.engines.failures import LoadFailed, Reason

#: Weights that share a scale and a zero point in int4, along a row. In int8 each row has a scale.
INT4_GROUP = 64


def quantize(model: Any, quantization: str) -> None:
    """Make int8 or int4 of the weights of all linear layers but the head, in place, on the device where they are.

    Raises:
        LoadFailed: torchao is not installed, or some weights could not be quantized.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"{quantization} needs torchao, which can't be imported here ({error}): pip install 'headrace[worker]'.",
        ) from error
    body = model.base_model
    _check(body, quantization)
    quantize_(body, Int8WeightOnlyConfig() if quantization == "int8" else _int4(model.device.type))
    if model.device.type == "cpu":
        _release(model)


def _release(model: Any) -> None:
    """Give back the memory of the weights that were replaced; without this a model takes more than before.

    The other weights are views of the mapped file, which stays as a whole as long as one of them does. The C library
    keeps what is freed, unless it is told.
    """
    for parameter in model.parameters():
        if type(parameter.data) is torch.Tensor:
            parameter.data = parameter.data.clone()
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _check(body: Any, quantization: str) -> None:
    """Whether it holds for all of the weights. Raises: LoadFailed."""
    layers = {name: layer for name, layer in body.named_modules() if isinstance(layer, torch.nn.Linear)}
    known = {id(layer.weight) for layer in body.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Embedding)}
    other = [name for name, weight in body.named_parameters() if weight.ndim > 1 and id(weight) not in known]
    if other:
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"{quantization} is made of linear layers, and {other[0]} is none: {len(other)} such weights would stay as "
            "they are. Allowed: none, bf16.",
        )
    odd = [(name, layer.in_features) for name, layer in layers.items() if layer.in_features % INT4_GROUP]
    if quantization == "int4" and odd:
        name, rows = odd[0]
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"int4 divides rows into groups of {INT4_GROUP} weights, and {name} has rows of {rows}; int8 has none.",
        )


def _int4(device: str) -> Any:
    """Each kind of device has a kernel of its own, and weights are packed for it."""
    if device == "cpu":
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP)
    from torchao.quantization import Int4WeightOnlyConfig
    from torchao.quantization.quantize_.workflows import Int4PackingFormat

    return Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format=Int4PackingFormat.TILE_PACKED_TO_4D)

"""Keeps the weights of a model's layers in the host's memory; each comes to the device for as long as it computes."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import cpu_offload


def keep_on_host(model: Any, device: torch.device) -> Any:
    """Let the layers of a model that lies in the host's memory compute on `device`. Embeddings and head move there.

    Every step copies all layers to the device, so that it takes as long as that.
    """
    layers = model.base_model.layers
    for layer in layers:
        cpu_offload(layer, execution_device=device)
    for module in model.modules():
        if not any(module is inner for layer in layers for inner in layer.modules()):
            _move(module, device)
    return model


def _move(module: Any, device: torch.device) -> None:
    """Move what the module itself holds, and not what its children do."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(device)
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, buffer.to(device))

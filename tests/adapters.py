"""Adapters (LoRA) of tiny models, in a folder as PEFT writes it; and the models that they are merged into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

#: How much of the product of its two matrices is added is ALPHA / rank.
ALPHA = 16
MODULES = ("q_proj", "v_proj", "gate_proj", "down_proj")
#: So large that the answer is another one.
SCALE = 0.3


def save_adapter(folder: Path, base: Path, *, seed: int = 0, rank: int = 8) -> Path:
    """An adapter with random weights for a model of safetensors."""
    import numpy
    from safetensors.numpy import load_file, save_file

    random = numpy.random.default_rng(seed)
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        if name.split(".")[-2] in MODULES:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            rows, columns = weight.shape
            shapes = {"lora_A": (rank, columns), "lora_B": (rows, rank)}
            tensors |= {
                f"{stem}.{part}.weight": random.normal(0, SCALE, shape).astype(numpy.float32)
                for part, shape in shapes.items()
            }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": ALPHA, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": list(MODULES)}))
    return folder


def merged(folder: Path, base: Path, adapter: Path) -> Path:
    """The model that the adapter makes of its base."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(base, folder)
    parts = load_file(adapter / "adapter_model.safetensors")
    rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
    tensors = load_file(base / "model.safetensors")
    for name, weight in tensors.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in parts:
            product = parts[f"{stem}.lora_B.weight"] @ parts[f"{stem}.lora_A.weight"]
            tensors[name] = weight + ALPHA / rank * product
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

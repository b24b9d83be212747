"""Models with random weights, made in a moment, for engines that read safetensors folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def save_tiny_llama(folder: Path, **shape: Any) -> Path:
    """Save a float32 Llama of two layers into a folder; `shape` changes its config."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **{
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            **shape,
        }
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder

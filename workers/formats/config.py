"""What `config.json` says of a model: its shape. It is the description of safetensors and of most OpenVINO folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.failures import FailureReason, SourceFailed
from workers.formats.files import Files, read_json

#: Bytes of one number of the key-value cache.
KV_NUMBER_BYTES = 2
#: Ends of the names of classes that generate, and so keep keys and values.
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Shape:
    """Zero = it does not say."""

    kv_bytes_per_token: int = 0
    hidden_size: int = 0
    vocabulary_size: int = 0
    context_length: int = 0


def read_shape(files: Files) -> Shape:
    """Raises: SourceFailed: MISSING_FILE, or UNSUPPORTED_ARCHITECTURE if the model brings code of its own."""
    config = read_json(files, "config.json")
    if "auto_map" in config:
        raise SourceFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            "config.json asks to run code of the repository (auto_map), which is never done. Take a conversion of the "
            "model to an architecture of transformers, or a GGUF or OpenVINO one.",
        )
    architectures = config.get("architectures") or ["ForCausalLM"]
    generates = any(name.endswith(_GENERATES) for name in architectures) and "modules.json" not in files.sizes
    # Models with several parts, such as image and text, keep the text part's numbers apart.
    text = config.get("text_config") or config
    return Shape(
        kv_bytes_per_token=_kv_bytes(text) if generates else 0,
        hidden_size=_first(text, "hidden_size", "n_embd", "d_model"),
        vocabulary_size=_first(text, "vocab_size") or _first(config, "vocab_size"),
        context_length=_first(text, "max_position_embeddings", "n_positions", "max_sequence_length"),
    )


def _kv_bytes(config: Mapping[str, Any]) -> int:
    """Keys and values of one token in all layers that have them, all at full context."""
    heads = _first(config, "num_attention_heads", "n_head")
    if not heads:
        return 0
    head_size = _first(config, "head_dim") or _first(config, "hidden_size", "n_embd", "d_model") // heads
    # Multi-head latent attention (DeepSeek): transformers keeps the expanded keys and values of all heads.
    key_size = _first(config, "qk_nope_head_dim") + _first(config, "qk_rope_head_dim") or head_size
    value_size = _first(config, "v_head_dim") or head_size
    layers = _first(config, "num_hidden_layers", "n_layer", "num_layers")
    if kinds := config.get("layer_types"):
        layers = sum(kind.endswith("attention") and kind != "linear_attention" for kind in kinds)
    kv_heads = _first(config, "num_key_value_heads") or (1 if config.get("multi_query") else heads)
    return layers * kv_heads * (key_size + value_size) * KV_NUMBER_BYTES


def _first(config: Mapping[str, Any], *names: str) -> int:
    """The first that is there; configurations have used several names for one thing."""
    return next((int(value) for name in names if (value := config.get(name)) is not None), 0)

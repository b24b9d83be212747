"""Reads a model's shape from `config.json`, which safetensors and most OpenVINO folders have."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.formats.files import Files, read_json

#: Bytes of one element of the KV cache.
KV_ELEMENT_BYTES = 2
#: No model has more layers.
MAX_LAYERS = 10_000
#: Model types whose positions start after the padding token's id.
_COUNT_FROM_PADDING = frozenset(
    {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "xmod"}
)
#: Endings of the names of classes that generate text, and so keep keys and values.
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Shape:
    """The shape of a model. Zero = unknown."""

    kv_bytes_per_token: int = 0
    hidden_size: int = 0
    vocabulary_size: int = 0
    context_length: int = 0


def read_config(files: Files) -> dict[str, Any]:
    """Raises: SourceFailed: MISSING_FILE, or UNSUPPORTED_ARCHITECTURE if the model brings code of its own."""
    config = read_json(files, "config.json")
    if "auto_map" in config:
        raise SourceFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            "config.json asks to run code of the repository (auto_map), which is never done. Take a conversion of the "
            "model to an architecture of transformers, or a GGUF or OpenVINO one.",
        )
    return config


def generates(config: Mapping[str, Any], files: Files) -> bool:
    """Whether it continues text; a model that doesn't say so does."""
    architectures = config.get("architectures") or ["ForCausalLM"]
    return any(name.endswith(_GENERATES) for name in architectures) and "modules.json" not in files.sizes


def read_shape(files: Files) -> Shape:
    """Raises: SourceFailed, as `read_config`."""
    config = read_config(files)
    # Models with several parts, such as image and text, have the text part's values in an object of their own.
    text = config.get("text_config") or config
    return Shape(
        kv_bytes_per_token=_kv_bytes(text) if generates(config, files) else 0,
        hidden_size=_first(text, "hidden_size", "n_embd", "d_model"),
        vocabulary_size=_first(text, "vocab_size") or _first(config, "vocab_size"),
        context_length=_context_length(text),
    )


def _context_length(config: Mapping[str, Any]) -> int:
    """The number of positions; some files have -1 for no limit."""
    positions = _first(config, "max_position_embeddings", "n_positions", "max_sequence_length")
    if config.get("model_type") in _COUNT_FROM_PADDING:
        positions -= _first(config, "pad_token_id") + 1
    return max(positions, 0)


def _kv_bytes(config: dict[str, Any]) -> int:
    """Bytes of the keys and values of one token in all layers that keep them, each at full context."""
    kinds = _layers(config)
    # The last layers may share the keys and values of earlier ones.
    own = kinds[: len(kinds) - _first(config, "num_kv_shared_layers")]
    # Values that differ by layer.
    apart = {int(number): changes for number, changes in (config.get("per_layer_config") or {}).items()}
    return KV_ELEMENT_BYTES * sum(
        _kv_elements(ChainMap(apart.get(i, {}), config), kind)
        for i, kind in enumerate(own)
        if kind.endswith("attention") and kind != "linear_attention"
    )


def _layers(config: Mapping[str, Any]) -> Sequence[str]:
    """The kind of each layer. Raises: ValueError for too many layers."""
    kinds = config.get("layer_types")
    count = len(kinds) if kinds else _first(config, "num_hidden_layers", "n_layer", "num_layers")
    if not 0 <= count <= MAX_LAYERS:
        raise ValueError(f"it claims {count} layers")
    return kinds or ["full_attention"] * count


def _kv_elements(config: Mapping[str, Any], kind: str) -> int:
    """Elements that a layer keeps of one token."""
    if latent := _first(config, "kv_lora_rank"):
        # Multi-head latent attention (DeepSeek) keeps keys and values compressed, for all heads at once.
        return latent + _first(config, "qk_rope_head_dim")
    heads = _first(config, "num_attention_heads", "n_head")
    size = _first(config, "head_dim") or (_first(config, "hidden_size", "n_embd", "d_model") // heads if heads else 0)
    shared = config.get("multi_query") and not config.get("new_decoder_architecture")
    kv_heads = _first(config, "num_key_value_heads") or (1 if shared else heads)
    if kind == "full_attention":
        # Layers with global attention may have other heads than those with a window (Gemma 4).
        size = _first(config, "global_head_dim") or size
        kv_heads = _first(config, "num_global_key_value_heads") or kv_heads
    return 2 * kv_heads * size


def _first(config: Mapping[str, Any], *names: str) -> int:
    """The first field that exists; configurations use several names for one value."""
    return next((int(value) for name in names if (value := config.get(name)) is not None), 0)

"""What `config.json` says of a model: its shape. It is the description of safetensors and of most OpenVINO folders."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.formats.files import Files, read_json

#: Bytes of one number of the key-value cache.
KV_ELEMENT_BYTES = 2
#: More layers has no model.
MAX_LAYERS = 10_000
#: Their first position is behind the padding token's id.
_COUNT_FROM_PADDING = frozenset(
    {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "xmod"}
)
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
        context_length=_context_length(text),
    )


def _context_length(config: Mapping[str, Any]) -> int:
    """The tokens that there are positions for; -1 is written for any number."""
    positions = _first(config, "max_position_embeddings", "n_positions", "max_sequence_length")
    if config.get("model_type") in _COUNT_FROM_PADDING:
        positions -= _first(config, "pad_token_id") + 1
    return max(positions, 0)


def _kv_bytes(config: dict[str, Any]) -> int:
    """Keys and values of one token in all layers that keep them, each at full context."""
    kinds = _layers(config)
    # The last layers may use what earlier ones keep.
    own = kinds[: len(kinds) - _first(config, "num_kv_shared_layers")]
    # What differs by layer.
    apart = {int(number): changes for number, changes in (config.get("per_layer_config") or {}).items()}
    return KV_ELEMENT_BYTES * sum(
        _kv_elements(ChainMap(apart.get(i, {}), config), kind)
        for i, kind in enumerate(own)
        if kind.endswith("attention") and kind != "linear_attention"
    )


def _layers(config: Mapping[str, Any]) -> Sequence[str]:
    """The kind of each layer. Raises: ValueError for more than any model has."""
    kinds = config.get("layer_types")
    count = len(kinds) if kinds else _first(config, "num_hidden_layers", "n_layer", "num_layers")
    if not 0 <= count <= MAX_LAYERS:
        raise ValueError(f"it claims {count} layers")
    return kinds or ["full_attention"] * count


def _kv_elements(config: Mapping[str, Any], kind: str) -> int:
    """Numbers that a layer keeps of one token."""
    if latent := _first(config, "kv_lora_rank"):
        # Multi-head latent attention (DeepSeek) keeps keys and values compressed, for all heads at once.
        return latent + _first(config, "qk_rope_head_dim")
    heads = _first(config, "num_attention_heads", "n_head")
    size = _first(config, "head_dim") or (_first(config, "hidden_size", "n_embd", "d_model") // heads if heads else 0)
    shared = config.get("multi_query") and not config.get("new_decoder_architecture")
    kv_heads = _first(config, "num_key_value_heads") or (1 if shared else heads)
    if kind == "full_attention":
        # Layers that see everything may have other heads than those with a window (Gemma 4).
        size = _first(config, "global_head_dim") or size
        kv_heads = _first(config, "num_global_key_value_heads") or kv_heads
    return 2 * kv_heads * size


def _first(config: Mapping[str, Any], *names: str) -> int:
    """The first that is there; configurations have used several names for one thing."""
    return next((int(value) for name in names if (value := config.get(name)) is not None), 0)

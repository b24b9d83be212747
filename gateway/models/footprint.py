"""What a model's files say about its size: what readers of files find, and memory plans are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """What a model's files say about its size. Zero = they don't say."""

    #: Of `gguf`, `safetensors`, `openvino`; empty for engines without weights.
    format: str = ""
    #: Bytes of all weight files, as they are stored.
    weights_bytes: int = 0
    num_parameters: int = 0
    #: Those of them in matrices over the vocabulary: embeddings and, if it has weights of its own, the head.
    outer_parameters: int = 0
    #: Keys and values of one token in all layers, at two bytes a number.
    kv_bytes_per_token: int = 0
    hidden_size: int = 0
    vocabulary_size: int = 0
    #: Tokens of the longest context that the model was made for.
    context_length: int = 0
    #: The bits of a stored weight, on average.
    bits_per_weight: float = 0.0
    #: The type in which keys and values are to be kept, such as `u8`; empty if the files leave it to the engine.
    kv_precision: str = ""

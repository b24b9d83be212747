"""The size of a model, as its files state it. Readers of formats fill it in; memory plans use it."""

from __future__ import annotations

from dataclasses import dataclass

#: The context of a model whose files do not say one, in tokens.
UNSTATED_CONTEXT = 2048


@dataclass(frozen=True)
class Footprint:
    """The size of a model, as its files state it. Zero = unknown."""

    #: `gguf`, `safetensors` or `openvino`; empty for engines without weights.
    format: str = ""
    #: Bytes of all weight files, as they are stored.
    weights_bytes: int = 0
    num_parameters: int = 0
    #: The embedding parameters among them: the embedding matrix and, if it has weights of its own, the head.
    outer_parameters: int = 0
    #: Bytes of the keys and values of one token in all layers, at two bytes an element.
    kv_bytes_per_token: int = 0
    hidden_size: int = 0
    vocabulary_size: int = 0
    #: The longest context that the model was made for, in tokens.
    context_length: int = 0
    #: Mean bits of a stored weight.
    bits_per_weight: float = 0.0
    #: The type for keys and values, such as `u8`; empty if the files leave it to the engine.
    kv_precision: str = ""
    #: All of its files are on the device whose agent says so, and complete.
    here: bool = False

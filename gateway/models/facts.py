"""What the files of a model say of it, beside its size: for people who choose one, and for the catalog's entry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFacts:
    """Read from headers and descriptions. Empty or zero = not said."""

    #: `gguf`, `safetensors` or `openvino`.
    format: str = ""
    #: As the files name it: a class such as `LlamaForCausalLM`, or GGUF's word such as `llama`.
    architecture: str = ""
    #: How most weights are stored: `bfloat16`, `Q4_K_M`.
    dtype: str = ""
    #: An SPDX identifier in lower case such as `apache-2.0`, or the license's own name.
    license: str = ""
    #: Bytes of all files that are needed, as they are stored.
    size_bytes: int = 0
    num_parameters: int = 0
    #: The longest context that the model was made for, in tokens.
    context_length: int = 0
    #: It can look at pictures; no engine gives it any yet.
    vision: bool = False
    #: The kind of its tokenizer: `BPE`, `WordPiece`, GGUF's `gpt2`.
    tokenizer: str = ""
    #: On the hub: the branch, tag or commit that was asked for, and the commit that it was at that moment.
    revision: str = ""
    commit: str = ""

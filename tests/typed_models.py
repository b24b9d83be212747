"""Tiny models of many types, with the answers that transformers gives; `python -m tests.typed_models FOLDER...` exports
them under the interpreter of openvino-export.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

#: What all have, and where a type says it otherwise or wants more. Windows are shorter than the prompt.
SHAPE = {
    "vocab_size": 1216,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
_WINDOW = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "codegen": {**_GPT, "rotary_dim": 8},
    "cohere2": _WINDOW,
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "glm4": {"head_dim": 16},
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_oss": {**_WINDOW, **_LOCAL, "head_dim": 16},
    "gptj": {**_GPT, "rotary_dim": 8},
    "granitemoe": _LOCAL,
    "mistral": {"sliding_window": 32},
    "mixtral": _LOCAL,
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "phi": {"num_key_value_heads": 4},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 64},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {**_EXPERTS, "head_dim": 16},
}
PROMPT = [(37 * i * i + 11 * i + 5) % 1190 + 5 for i in range(60)]
ANSWER_TOKENS = 16


def save(folder: Path, model_type: str) -> list[int]:
    """Save a model in float32. Returns its greedy answer to PROMPT."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    config: Any = AutoConfig.for_model(model_type, **{**SHAPE, **SHAPES.get(model_type, {})})
    model: Any = AutoModelForCausalLM.from_config(config).float().eval()
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, 0, 0.2)
    model.save_pretrained(folder)
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(ANSWER_TOKENS):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


def main() -> None:
    """Export each folder into itself, below `draft`."""
    from workers.engines.openvino.export_process import export

    for folder in map(Path, sys.argv[1:]):
        (folder / "draft").mkdir()
        export(folder, folder / "draft", "none", lambda part: None)


if __name__ == "__main__":
    main()

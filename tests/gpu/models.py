"""Models with random weights in bfloat16, made on the device that will compute them: `python -m tests.gpu.models`.

Their tokenizers are trained here and filled up, so that each token has a text of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.gpu.device import in_torch

CONTEXT_LENGTH = 2048
#: Of a weight.
BYTES = 2
#: Ids of what begins and ends a text, as `tests/tokenizers.py` numbers them.
BOS, EOS = 0, 1
#: Shapes of Llamas, by name: Llama 3 8B, SmolLM2 135M, and one for rehearsals.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
    "smollm2": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


def bytes_read(name: str) -> int:
    """What each step reads of a model: all matrices, but of input embeddings of their own a few rows only."""
    shape = SHAPES[name]
    hidden = shape["hidden_size"]
    kv = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * shape["intermediate_size"]
    return BYTES * (shape["num_hidden_layers"] * layer + hidden * shape["vocab_size"])


def bytes_saved(name: str) -> int:
    """What its files take, about."""
    shape = SHAPES[name]
    separate = 0 if shape.get("tie_word_embeddings") else BYTES * shape["hidden_size"] * shape["vocab_size"]
    return bytes_read(name) + separate


def save_random_llama(folder: Path, name: str, device: str) -> Path:
    """Save it as others publish theirs. No answer ends by itself: the scores of control tokens are zero."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = SHAPES[name]
    config = LlamaConfig(**shape, max_position_embeddings=CONTEXT_LENGTH, bos_token_id=BOS, eos_token_id=EOS)
    with torch.device(in_torch(device)):
        made: Any = AutoModelForCausalLM
        model = made.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[[BOS, EOS]] = 0
    model.save_pretrained(folder)
    _save_tokenizer(folder, shape["vocab_size"])
    return folder


def _save_tokenizer(folder: Path, vocab_size: int) -> None:
    from tests.named_models import TEMPLATE, small_bpe
    from tests.tokenizers import save_folder

    save_folder(folder, small_bpe(), template=TEMPLATE)
    file = folder / "tokenizer.json"
    parts = json.loads(file.read_text())
    known = parts["model"]["vocab"]
    known |= {f"Ġ{number:x}": number for number in range(len(known), vocab_size)}
    file.write_text(json.dumps(parts))


def main() -> None:
    """Make one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", required=True)
    args = parser.parse_args()
    save_random_llama(args.folder, args.name, args.device)


if __name__ == "__main__":
    main()

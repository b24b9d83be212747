"""transformers' own `generate_batch`, without any of ours: prompts (a JSON list a line) on stdin, results on stdout.

`python -m tests.gpu.plain FOLDER DEVICE CACHE_TOKENS`: a model, where it computes, and the tokens of its KV cache.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.bench.raw import Answers
from tests.bench.workload import MAX_TOKENS, Sample
from tests.gpu.device import in_torch

#: Tokens of a block of its KV cache, as it is by default.
PAGE_TOKENS = 256


def generate(model: Any, prompts: list[list[int]], cache_tokens: int) -> list[Sample]:
    """One call. It counts from when the requests are there, so neither its cache nor its graphs are made meanwhile."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    settings: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=-1, max_new_tokens=MAX_TOKENS
    )
    outputs = model.generate_batch(
        prompts,
        generation_config=settings,
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE_TOKENS, num_blocks=cache_tokens // PAGE_TOKENS, allow_block_sharing=False
        ),
        record_timestamps=True,
    )
    return [Sample(one.created_time, list(one.timestamps), len(one.generated_tokens)) for one in outputs.values()]


def main() -> None:
    """Serve runs until stdin closes."""
    with Answers() as answers:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder, device, cache_tokens = sys.argv[1:]
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(in_torch(device)).eval()
        answers.serve(lambda texts: generate(model, [_rendered(tokenizer, text) for text in texts], int(cache_tokens)))


def _rendered(tokenizer: Any, text: str) -> list[int]:
    said = [{"role": "user", "content": text}]
    ids: list[int] = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
    return ids


if __name__ == "__main__":
    main()
    os._exit(0)  # its threads may still run

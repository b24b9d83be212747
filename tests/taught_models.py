"""A small model that is taught some conversations by heart, with a chat template: it reasons, and calls tools.

It knows nothing else. What a server makes of its answers shows what the server does, not what the model can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tiny_models import save_tiny_llama
from tests.tokenizers import CONTROL, save_folder
from workers.handlers.prompts import prompt_ids
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.folder import read_folder

#: In the manner of Hermes: tools in a system turn, calls as `<tool_call>`, thoughts before an answer.
TEMPLATE = (
    "{% if tools %}<|bos|>system {% for tool in tools %}{{ tool.function | tojson }}{% endfor %}<|eot|>{% endif %}"
    "{% for m in messages %}<|bos|>{{ m.role }} {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ c.function | tojson }}</tool_call>{% endfor %}<|eot|>{% endfor %}<|bos|>assistant <think>"
)
#: Tokens of its vocabulary, at most.
VOCABULARY = 3000
#: The loss at which it is let go, and the most steps until then.
LEARNT, MAX_STEPS = 0.03, 1000


def save_taught(folder: Path, lessons: Sequence[tuple[Mapping[str, Any], str]]) -> Path:
    """Save a Llama that gives these answers to these requests. It takes a minute or so of a processor."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    save_folder(folder, _vocabulary(lessons), template=TEMPLATE)
    tokenizer = ByteLevelTokenizer(read_folder(folder))
    try:
        rows = [
            (prompt_ids(request, tokenizer, at_ms=0, most=1 << 20)[0], [*tokenizer.encode(answer), 1])
            for request, answer in lessons
        ]
    finally:
        tokenizer.templates.close()
    shape = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    save_tiny_llama(folder, **shape, max_position_embeddings=4096)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.tensor([[*prompt, *answer, *[1] * (longest - len(prompt) - len(answer))] for prompt, answer in rows])
    labels = torch.tensor(
        [[-100] * len(prompt) + answer + [-100] * (longest - len(prompt) - len(answer)) for prompt, answer in rows]
    )
    # Logits of the answers only: they are most of the work.
    told = labels[:, 1:] != -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(MAX_STEPS):
        states = model.model(input_ids=ids).last_hidden_state[:, :-1][told]
        loss = torch.nn.functional.cross_entropy(model.lm_head(states), labels[:, 1:][told])
        if loss.item() < LEARNT:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    else:
        raise AssertionError(f"it has not learnt its lessons: {loss.item()} after {MAX_STEPS} steps")
    (folder / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": 1}')
    tensors = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _vocabulary(lessons: Sequence[tuple[Mapping[str, Any], str]]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{request} {answer}" for request, answer in lessons] * 4, trainer)
    return tokenizer

"""How many tokens a request may use, before a tokenizer has counted its prompt. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.models.entry import Model

#: Bytes of UTF-8 that are taken for one token, and tokens for the frame of one message.
BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 3, 4


def tokens_wanted(kind: str, model: Model, request: Mapping[str, Any]) -> int:
    """The most tokens that a job may use, with its prompt estimated from its length."""
    prompt = sum(estimate_tokens(request[name]) for name in ("messages", "prompt", "input", "tools") if name in request)
    if kind == "embedding":
        return prompt
    answers = int(request.get("n") or 1) * _count(request.get("prompt"))
    return prompt + answers * int(request.get("max_tokens") or model.default_max_tokens)


def estimate_tokens(value: Any) -> int:
    """Tokens in a text, in token ids, or in a structure of them."""
    if isinstance(value, str):
        return -(-len(value.encode()) // BYTES_PER_TOKEN)
    if isinstance(value, Mapping):
        return TOKENS_PER_MESSAGE + sum(map(estimate_tokens, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(estimate_tokens, value))
    return 1


def _count(prompt: Any) -> int:
    """How many prompts there are. A list of token ids is one."""
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)

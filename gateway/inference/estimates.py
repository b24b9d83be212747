"""How many tokens a request may use, before a tokenizer has counted its prompt. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.base.message_parts import MEDIA

#: Assumed bytes of UTF-8 per token, and tokens around each message.
BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 3, 4
#: Assumed tokens of an image, a recording or a file, whatever its size.
MEDIA_TOKENS = 1_000
#: Reserved for an answer that may fill the context, as nobody has limited it: few are so long, and those are charged
#: for what they took when they have ended.
UNLIMITED_ANSWER = 512


def estimate_prompt(request: Mapping[str, Any]) -> int:
    """Estimated tokens of everything in a request that the model reads."""
    return sum(estimate_tokens(request[name]) for name in ("messages", "prompt", "input", "tools") if name in request)


def estimate_tokens(value: Any) -> int:
    """Estimated tokens in a text, in token ids, or in a structure of them."""
    if isinstance(value, str):
        return -(-len(value.encode()) // BYTES_PER_TOKEN)
    if isinstance(value, Mapping) and value.get("type") in MEDIA:
        return MEDIA_TOKENS
    if isinstance(value, Mapping):
        return TOKENS_PER_MESSAGE + sum(map(estimate_tokens, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(estimate_tokens, value))
    return 1

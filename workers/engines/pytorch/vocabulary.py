"""The bytes of a model's tokens, from the tokenizer in its folder: byte-level BPE, as the model worker reads it, too.

Knows no text and no chat: grammars need it (`workers/engines/grammars/token_masks.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from workers.engines.grammars.token_masks import Grammars

TOKENIZER = "tokenizer.json"
#: Files that name control tokens, beside the tokenizer's own list.
_NAMING = ("special_tokens_map.json", "tokenizer_config.json")


def grammars_of(folder: Path, vocabulary: int) -> Grammars | None:
    """The grammars of a model with so many tokens, None if it has no tokenizer of that kind."""
    file = folder / TOKENIZER
    if not file.is_file():
        return None
    parts = json.loads(file.read_text("utf-8"))
    if parts["model"].get("type") != "BPE" or "ByteLevel" not in json.dumps(parts.get("decoder")):
        return None
    control = _named(folder) | {token["content"] for token in parts["added_tokens"] if token["special"]}
    added = {token["content"] for token in parts["added_tokens"]}
    backend = Tokenizer.from_str(json.dumps({**parts, "post_processor": None}))
    tokens = [b""] * vocabulary
    alphabet = _alphabet()
    for text, token_id in backend.get_vocab(with_added_tokens=True).items():
        if token_id < vocabulary and text not in control:
            spelled = text not in added and all(char in alphabet for char in text)
            tokens[token_id] = bytes(alphabet[char] for char in text) if spelled else text.encode()
    return Grammars(tokens, lambda text: list(backend.encode(text, add_special_tokens=False).ids))


def _named(folder: Path) -> set[str]:
    found: set[str] = set()
    for name in _NAMING:
        told = json.loads((folder / name).read_text("utf-8")) if (folder / name).is_file() else {}
        for role, value in told.items():
            if role.endswith("_token") or role == "additional_special_tokens":
                found |= {_text(one) for one in (value if isinstance(value, list) else [value])}
    return found - {""}


def _text(token: Any) -> str:
    """Tokens are texts, or objects with a text."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else ""


def _alphabet() -> dict[str, int]:
    """The character that stands for each byte, as GPT-2 has chosen them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    alphabet = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
    assert set(alphabet) == set(ByteLevel.alphabet())
    return alphabet

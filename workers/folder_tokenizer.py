"""The tokenizer of a safetensors folder: `tokenizer.json` (byte-level BPE) and the model's chat template."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from workers.tokenizer import GgufTokenizer, byte_alphabet


class FolderTokenizer(GgufTokenizer):
    """Differs from a GGUF file's in where its parts lie."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        parts = _read_json(folder / "tokenizer.json")
        if parts["model"]["type"] != "BPE" or (parts.get("decoder") or {}).get("type") != "ByteLevel":
            raise ValueError(f"{folder.name}: its tokenizer is not supported; supported: byte-level BPE")
        added = parts["added_tokens"]
        control = {token["content"]: int(token["id"]) for token in added if token["special"]}
        self._control = control
        self._split = re.compile("(" + "|".join(map(re.escape, sorted(control, key=len, reverse=True))) + ")")
        # Without them in the backend, what looks like a control token is text.
        plain = {**parts, "added_tokens": [token for token in added if not token["special"]], "post_processor": None}
        self._plain = Backend.from_str(json.dumps(plain))
        vocabulary: dict[str, int] = parts["model"]["vocab"]
        alphabet = byte_alphabet()
        self._bytes = [b""] * (max([*vocabulary.values(), *(token["id"] for token in added)]) + 1)
        for token, i in vocabulary.items():
            self._bytes[i] = bytes(alphabet[char] for char in token if char in alphabet)
        for token in added:
            self._bytes[token["id"]] = b"" if token["special"] else token["content"].encode()
        config = _read_json(folder / "tokenizer_config.json")
        self._tokens_by_name = {
            name: value["content"] if isinstance(value, dict) else value
            for name in ("bos_token", "eos_token")
            if (value := config.get(name))
        }
        self._template_text = _template(folder, config)
        self.eos_ids = _eos_ids(folder, control.get(self._tokens_by_name.get("eos_token", "")))
        text = "\0".join([self._template_text, json.dumps(parts, sort_keys=True)])
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() or path.name == "tokenizer.json" else {}


def _template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    return file.read_text() if file.exists() else str(config.get("chat_template") or "")


def _eos_ids(folder: Path, of_tokenizer: int | None) -> tuple[int, ...]:
    """All that end an answer: those of the generation config, else of the model's, and the tokenizer's."""
    told = _read_json(folder / "generation_config.json").get("eos_token_id")
    if told is None:
        told = _read_json(folder / "config.json").get("eos_token_id")
    ids = told if isinstance(told, list) else [] if told is None else [told]
    return tuple(dict.fromkeys([*ids, *([] if of_tokenizer is None else [of_tokenizer])]))

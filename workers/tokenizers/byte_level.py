"""Byte-level BPE with the model's chat template, without torch. `folder.py` and `gguf.py` read its parts from files.

Text that a user wrote never becomes a control token: special tokens are found only in what the template wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ContextTooLong
from gateway.store.codec import mended
from workers.tokenizers.chat_template import ChatTemplates, Messages
from workers.tokenizers.conversation import for_template


@dataclass(frozen=True)
class ControlToken:
    """A token that no plain text is turned into, and whether it takes the spaces beside it."""

    id: int
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """The parts of a tokenizer, as read from files."""

    #: `tokenizers.Tokenizer` that knows no control tokens.
    backend: Any
    #: UTF-8 bytes of each token, by id; empty for control tokens.
    token_bytes: Sequence[bytes]
    control: Mapping[str, ControlToken]
    eos_ids: tuple[int, ...]
    #: Tokens before and after a prompt that is not a conversation: mostly BOS.
    before: Sequence[int] = ()
    after: Sequence[int] = ()
    templates: Mapping[str, str] = field(default_factory=dict)
    #: Variables for templates, such as `bos_token`.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Further input to the digest.
    source: str = ""


class ByteLevelTokenizer:
    """See `workers/tokenizers/load.py`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._plain = vocabulary.backend
        self._bytes = vocabulary.token_bytes
        self.control: Mapping[str, int] = {name: token.id for name, token in vocabulary.control.items()}
        self.template_texts: Sequence[str] = list(vocabulary.templates.values())
        self._split = _pattern(vocabulary.control)
        self._before, self._after = list(vocabulary.before), list(vocabulary.after)
        self.eos_ids = vocabulary.eos_ids
        self.templates = ChatTemplates(vocabulary.templates, vocabulary.variables)
        named = max((len(name.encode()) for name in self.control), default=1)
        self._longest = max(map(len, self._bytes), default=1) or 1
        #: Bytes of text that one token can stand for.
        self._longest = max(self._longest, named)
        text = "\0".join([json.dumps(vocabulary.templates), vocabulary.source])
        self.digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

    def check(self) -> list[str]:
        """Try the templates. Returns warnings. Raises: DeploymentFailed."""
        return self.templates.check()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; `<|im_start|>` in it is plain text, too."""
        return list(self._plain.encode(mended(text), add_special_tokens=False).ids)

    def encode_prompt(self, text: str, *, most: int | None = None) -> list[int]:
        """Ids of a prompt that is not a conversation, with BOS and the like. Raises: ContextTooLong."""
        text = mended(text)
        self._require_room(text, most)
        return [*self._before, *self.encode(text), *self._after]

    def render_chat(
        self,
        messages: Messages,
        *,
        tools: Messages | None = None,
        variables: Mapping[str, Any] | None = None,
        at_ms: int = 0,
        most: int | None = None,
    ) -> list[int]:
        """Ids of the rendered template. Texts in messages that look like a control token are marked, and stay text.

        Raises:
            InvalidRequest: the template refuses the conversation, or knows no tools.
            TemplateFailed: the template is wrong, or takes too long.
            ContextTooLong
        """
        template = self.templates.chosen(tools)
        calls = any(message.get("tool_calls") for message in messages)
        turns = for_template(messages, template, arguments_as_text=calls and self.templates.takes_text(template))
        conversation = [turns, list(tools) if tools else None, variables or {}]
        mark = _unused_mark(conversation)
        turns, functions, told = _mapped(conversation, lambda text: self._defused(mended(text), mark))
        text = self.templates.render(turns, functions, at_ms=at_ms, variables=told)
        self._require_room(text, most)
        ids: list[int] = []
        at = 0
        for match in self._split.finditer(text):
            ids += self._ids_between(text[at : match.start()], mark)
            ids.append(self.control[match[match.lastindex or 0]])
            at = match.end()
        return ids + self._ids_between(text[at:], mark)

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one token."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; invalid UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def _ids_between(self, text: str, mark: str) -> list[int]:
        return self.encode(text.replace(mark, "")) if text else []

    def _defused(self, text: str, mark: str) -> str:
        """The text with a mark inside everything that looks like a control token."""
        return self._split.sub(
            lambda match: match[0].replace(name := match[match.lastindex or 0], name[0] + mark + name[1:], 1), text
        )

    def _require_room(self, text: str, most: int | None) -> None:
        """Raises: ContextTooLong if a text surely has more than `most` tokens.

        Tokenizing a megabyte takes a second; this check takes no time.
        """
        if most is None or len(text) <= most:
            return
        normalizer = self._plain.normalizer
        size = len((normalizer.normalize_str(text) if normalizer else text).encode())
        least = -(-size // self._longest)
        if least > most:
            raise ContextTooLong(
                f"This model's maximum context length is {most} tokens, but the prompt is too long: it has {size} "
                f"bytes, which are at least {least} tokens. Shorten it."
            )


def byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE (GPT-2) uses for each byte, reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


def spelled_bytes(tokens: Iterable[str]) -> list[bytes]:
    """The bytes of tokens spelled in that alphabet; for others the bytes of their text."""
    alphabet = byte_alphabet()
    return [
        bytes([alphabet[char] for char in token]) if all(char in alphabet for char in token) else token.encode()
        for token in tokens
    ]


def _pattern(control: Mapping[str, ControlToken]) -> re.Pattern[str]:
    """A pattern for control tokens, the longest first; the last group is the token. Matches nothing without any."""
    alone = [
        ("\\s*" if control[name].lstrip else "") + f"({re.escape(name)})" + ("\\s*" if control[name].rstrip else "")
        for name in sorted(control, key=len, reverse=True)
        if name
    ]
    plain = [name for name in control if name and not (control[name].lstrip or control[name].rstrip)]
    if len(plain) == len(alone):
        # One group for all of them: vocabularies may have thousands.
        alone = ["(" + "|".join(map(re.escape, sorted(plain, key=len, reverse=True))) + ")"] if plain else []
    return re.compile("|".join(alone) or "(?!)")


def _mapped(value: Any, change: Any) -> Any:
    """The value with `change` applied to each text in it, names included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(name, change): _mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_mapped(inner, change) for inner in value]
    return value


#: Characters without any meaning, which are in no vocabulary.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


def _unused_mark(values: Sequence[Any]) -> str:
    """A sequence of noncharacters that occurs in none of the values. There are 2^40, so no text holds all."""
    text = json.dumps(values, ensure_ascii=False)
    while (mark := "".join(secrets.choice(_NONCHARACTERS) for _ in range(8))) in text:
        continue
    return mark

"""Text to token ids and back, and the model's own chat template, read from a GGUF file without torch.

Text that a user wrote never becomes a control token: special tokens are found only in what the template wrote.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from gateway.errors import InvalidRequest
from gateway.tool_calls import as_object
from workers.engines.fake import fake_word

#: Turns of a conversation, or tools, in the shapes of `schemas/chat.py`.
Messages = Sequence[Mapping[str, Any]]


class Tokenizer(Protocol):
    """What a model worker needs of a tokenizer."""

    eos_ids: tuple[int, ...]
    #: Names tokenizer and template; a resume needs the same.
    digest: str

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any control token."""

    def render_chat(self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0) -> list[int]:
        """Ids of a conversation, up to where the assistant begins to speak. Raises: InvalidRequest.

        `at_ms` is the time that a template tells which asks for the date, in ms since the epoch.
        """

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one token (perhaps a part of a character); empty for control tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


def load_tokenizer(model_path: str, engine: str) -> Tokenizer:
    """The tokenizer that belongs to a model's files."""
    if engine == "fake":
        return FakeTokenizer()
    path = Path(model_path)
    if (path / "tokenizer.json").exists():
        from workers.folder_tokenizer import FolderTokenizer

        return FolderTokenizer(path)
    return GgufTokenizer(path)


class FakeTokenizer:
    """Words of the fake engine: token i is ` w{i}`; any text is one id for each word."""

    eos_ids: tuple[int, ...] = ()
    digest = "fake"

    def encode(self, text: str) -> list[int]:
        """One id for each word."""
        return [fake_word(word) for word in text.split()] or [0]

    def render_chat(self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0) -> list[int]:
        """The words of all messages, then those of the calls and tools."""
        texts = [str(message.get("content") or "") for message in messages]
        calls = [json.dumps(call["function"]) for message in messages for call in message.get("tool_calls", ())]
        return self.encode(" ".join([*texts, *calls, *(json.dumps(tool) for tool in tools or ())]))

    def token_bytes(self, token_id: int) -> bytes:
        """The word with a space before it."""
        return b" w%d" % token_id

    def decode(self, ids: Sequence[int]) -> str:
        """The words of the ids."""
        return b"".join(map(self.token_bytes, ids)).decode()


#: Token types of the GGUF format that are control tokens.
_CONTROL = {3}


class GgufTokenizer:
    """A byte-level BPE tokenizer as a GGUF file describes it (`tokenizer.ggml.*`)."""

    def __init__(self, path: Path) -> None:
        fields = _read_gguf(path)
        if fields["tokenizer.ggml.model"] != "gpt2":
            model = fields["tokenizer.ggml.model"]
            raise ValueError(
                f"{path.name}: tokenizer model {model!r} is not supported; supported: gpt2 (byte-level BPE)"
            )
        tokens: list[str] = fields["tokenizer.ggml.tokens"]
        types: list[int] = fields["tokenizer.ggml.token_type"]
        self._plain = _byte_level_bpe(tokens, fields["tokenizer.ggml.merges"], fields.get("tokenizer.ggml.pre", ""))
        control = {token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind in _CONTROL}
        self._control = control
        self._split = re.compile("(" + "|".join(map(re.escape, sorted(control, key=len, reverse=True))) + ")")
        alphabet = byte_alphabet()
        self._bytes = [
            b"" if token in control else bytes(alphabet[char] for char in token if char in alphabet) for token in tokens
        ]
        self.eos_ids: tuple[int, ...] = (int(fields["tokenizer.ggml.eos_token_id"]),)
        self._template_text = str(fields.get("tokenizer.chat_template", ""))
        self._tokens_by_name = {
            name: tokens[int(fields[f"tokenizer.ggml.{name}_id"])]
            for name in ("bos_token", "eos_token")
            if f"tokenizer.ggml.{name}_id" in fields
        }
        text = "\0".join([self._template_text, *tokens])
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; `<|im_start|>` in it is so many letters."""
        return list(self._plain.encode(text).ids)

    def render_chat(self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0) -> list[int]:
        """Render the template, with a mark inside everything in the messages that looks like a control token.

        Raises:
            InvalidRequest: the template refuses the conversation, or knows no tools.
        """
        import jinja2

        if tools and "tools" not in self._template_text:
            raise InvalidRequest.of({"tools": ["The model's chat template has no place for tools; leave them out."]})
        mark = _unused_mark([messages, tools])
        now = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
        told = {"messages": [_with_parsed_arguments(message) for message in messages], "tools": tools or None}
        try:
            text = self._template().render(
                **self._defuse(told, mark),
                add_generation_prompt=True,
                strftime_now=now.strftime,
                **self._tokens_by_name,
            )
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"The model's chat template refuses these messages: {error}") from error
        ids: list[int] = []
        for part in self._split.split(text):
            if part in self._control:
                ids.append(self._control[part])
            elif part:
                ids += self.encode(part.replace(mark, ""))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one token."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; invalid UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def _defuse(self, value: Any, mark: str) -> Any:
        """The value with a mark in each text that looks like a control token."""
        if isinstance(value, str):
            return self._split.sub(lambda match: match[0][0] + mark + match[0][1:], value)
        if isinstance(value, Mapping):
            return {self._defuse(name, mark): self._defuse(inner, mark) for name, inner in value.items()}
        if isinstance(value, Sequence):
            return [self._defuse(inner, mark) for inner in value]
        return value

    @lru_cache(maxsize=1)  # noqa: B019 - one tokenizer lives as long as its process
    def _template(self) -> Any:
        import jinja2.sandbox

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )

        def refuse(message: str) -> None:
            raise jinja2.TemplateError(message)

        environment.globals["raise_exception"] = refuse
        # Jinja's own filter escapes for HTML; templates expect what transformers gives them.
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        return environment.from_string(self._template_text)


def _read_gguf(path: Path) -> dict[str, Any]:
    """The metadata that tokenizers need."""
    from workers.formats.gguf import Header

    header = Header(path, path.stat().st_size)
    return {name: header.content(name) for name in header.fields if name.startswith("tokenizer.")}


def _byte_level_bpe(tokens: Sequence[str], merges: Sequence[str], pre: str) -> Any:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    backend = Backend(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level]) if pre == "smollm" else byte_level
    return backend


def byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE (GPT-2) uses for each byte, reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


def _with_parsed_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates expect the arguments of a call as an object, the API has them as text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": as_object(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


#: They mean nothing in any text, and are part of no vocabulary.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


def _unused_mark(values: Sequence[Any]) -> str:
    """Noncharacters in an order that occurs in none of the values. There are 2^40, so that no text holds all."""
    text = json.dumps(values, ensure_ascii=False)
    while (mark := "".join(secrets.choice(_NONCHARACTERS) for _ in range(8))) in text:
        continue
    return mark

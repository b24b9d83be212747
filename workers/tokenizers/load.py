"""What a model worker needs of a tokenizer, and which one a model has. Text to token ids and back, without torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.models.engines import is_weightless
from workers.engines.fake import fake_word
from workers.tokenizers.chat_template import Messages


class Tokenizer(Protocol):
    """What a model worker needs of a tokenizer."""

    eos_ids: tuple[int, ...]
    #: Names tokenizer and template; a resume needs the same.
    digest: str

    def check(self) -> list[str]:
        """Try what only requests use. Returns what people should know. Raises: DeploymentFailed if it is of no use."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any control token."""

    def encode_prompt(self, text: str, *, most: int | None = None) -> list[int]:
        """Ids of a prompt by itself, with what the model wants around it, such as BOS.

        Raises: ContextTooLong, without looking for tokens, if there are surely more than `most`.
        """

    def render_chat(
        self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0, most: int | None = None
    ) -> list[int]:
        """Ids of a conversation, up to where the assistant begins to speak.

        `at_ms` is the time that a template tells which asks for the date, in ms since the epoch.

        Raises: InvalidRequest, TemplateFailed, ContextTooLong as `encode_prompt`.
        """

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of one token (perhaps a part of a character); empty for control tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""


def load_tokenizer(model_path: str, engine: str) -> Tokenizer:
    """The tokenizer that belongs to a model's files. Raises: DeploymentFailed."""
    if is_weightless(engine):
        return FakeTokenizer()
    from workers.tokenizers.byte_level import ByteLevelTokenizer
    from workers.tokenizers.folder import read_folder
    from workers.tokenizers.gguf import read_gguf

    path = Path(model_path)
    with reading_tokenizer(path):
        return ByteLevelTokenizer(read_folder(path) if path.is_dir() else read_gguf(path))


@contextlib.contextmanager
def reading_tokenizer(path: Path) -> Iterator[None]:
    """Around the reading of a tokenizer: what goes wrong is the fault of files. Raises: DeploymentFailed, OSError."""
    try:
        yield
    except (DeploymentFailed, OSError):
        raise
    except Exception as error:  # whatever is wrong with files of others; `tokenizers` raises this class itself
        raise DeploymentFailed(
            FailureReason.CHECKSUM, f"The tokenizer of {path.name} is damaged: {error!r:.300}."
        ) from error


class FakeTokenizer:
    """For engines without files, such as the fake one: token i is ` w{i}`; any text is one id for each word."""

    eos_ids: tuple[int, ...] = ()
    digest = "fake"

    def check(self) -> list[str]:
        """It has no template."""
        return []

    def encode(self, text: str) -> list[int]:
        """One id for each word."""
        return [fake_word(word) for word in text.split()] or [0]

    def encode_prompt(self, text: str, *, most: int | None = None) -> list[int]:
        """The same: it has no control tokens, and a word may be long."""
        return self.encode(text)

    def render_chat(
        self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0, most: int | None = None
    ) -> list[int]:
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

"""The contract of a tokenizer, and the choice of a model's own. Text to token ids and back, without torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.models.engines import is_weightless
from workers.engines.fake import fake_word
from workers.engines.grammars.fake_form import FIRST_BYTE
from workers.tokenizers.chat_template import Messages


class Tokenizer(Protocol):
    """The contract of a tokenizer."""

    eos_ids: tuple[int, ...]
    #: Digest of tokenizer and templates; a resume needs the same one.
    digest: str
    #: Control tokens by name: they have no text.
    control: Mapping[str, int]
    #: The chat templates.
    template_texts: Sequence[str]

    def check(self) -> list[str]:
        """Try parts that only requests use. Returns warnings. Raises: DeploymentFailed if no request could work."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without any control token."""

    def encode_prompt(self, text: str, *, most: int | None = None) -> list[int]:
        """Ids of a prompt that is not a conversation, with the model's own tokens around it, such as BOS.

        Raises: ContextTooLong, before tokenizing, if there are surely more than `most`.
        """

    def render_chat(
        self,
        messages: Messages,
        *,
        tools: Messages | None = None,
        variables: Mapping[str, Any] | None = None,
        at_ms: int = 0,
        most: int | None = None,
    ) -> list[int]:
        """Ids of a conversation, up to the beginning of the assistant's turn.

        `variables` are for templates that know them; `at_ms` is the time for those that print the date, in ms since
        the epoch.

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
    """Context of reading a tokenizer: any error means damaged files. Raises: DeploymentFailed, OSError."""
    try:
        yield
    except (DeploymentFailed, OSError):
        raise
    except Exception as error:  # whatever is wrong with files of others; `tokenizers` raises this class itself
        raise DeploymentFailed(
            FailureReason.CHECKSUM, f"The tokenizer of {path.name} is damaged: {error!r:.300}."
        ) from error


class FakeTokenizer:
    """For engines without files, such as the fake one: token i is ` w{i}`; any text is one id for each word.

    Behind the words come the 256 bytes, of which answers in a form are made.
    """

    eos_ids: tuple[int, ...] = ()
    digest = "fake"
    control: Mapping[str, int] = {}
    #: It has no template; calls are to be read as those of most models.
    template_texts: Sequence[str] = ("{{ tools }} <tool_call>",)

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
        self,
        messages: Messages,
        *,
        tools: Messages | None = None,
        variables: Mapping[str, Any] | None = None,
        at_ms: int = 0,
        most: int | None = None,
    ) -> list[int]:
        """The words of all messages, then those of the calls and tools."""
        texts = [str(message.get("content") or "") for message in messages]
        calls = [json.dumps(call["function"]) for message in messages for call in message.get("tool_calls", ())]
        return self.encode(" ".join([*texts, *calls, *(json.dumps(tool) for tool in tools or ())]))

    def token_bytes(self, token_id: int) -> bytes:
        """The word with a space before it, or a byte."""
        return b" w%d" % token_id if token_id < FIRST_BYTE else bytes([token_id - FIRST_BYTE])

    def decode(self, ids: Sequence[int]) -> str:
        """The words of the ids."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

"""A prompt of no tokens is refused before any engine sees it, however it came to that."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from gateway.errors import InvalidRequest
from tests.tokenizers import train, write_gguf
from workers.handlers.prompts import prompt_ids
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.load import load_tokenizer

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
NOTHING = "{% if false %}x{% endif %}"


@pytest.mark.parametrize(
    ("template", "request_", "says"),
    [
        (None, CHAT, "no chat template"),
        (NOTHING, CHAT, "has no tokens"),
        (None, {"prompt": ""}, "has no tokens"),
        (None, {"prompt": ["hi", ""]}, "has no tokens"),
    ],
)
def test_a_prompt_without_a_token_is_refused(
    tmp_path: Path, template: str | None, request_: dict[str, Any], says: str
) -> None:
    file = train(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", file, "gpt-2", chat_template=template)), "openvino")
    assert isinstance(tokenizer, ByteLevelTokenizer)
    with closing(tokenizer.templates), pytest.raises(InvalidRequest, match=says):
        prompt_ids(request_, tokenizer, at_ms=0, most=100)

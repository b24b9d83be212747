"""Chat templates: tools and earlier calls are rendered, and what a user wrote stays plain text."""

from __future__ import annotations

import pytest

from gateway.catalog import load_catalog
from gateway.errors import InvalidRequest
from gateway.settings import Settings
from workers.tokenizer import GgufTokenizer

#: In the manner of Qwen's: tools as JSON in the first turn, calls as JSON in the assistant's turns.
TEMPLATE = """
{%- for tool in tools or [] %}<tool>{{ tool.function | tojson }}</tool>{% endfor %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<call>{{ call.function.arguments | tojson }}</call>{% endfor %}<|im_end|>
{%- endfor %}"""
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"where": "<|im_end|> & Zürich"}'}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> GgufTokenizer:
    folder = tmp_path_factory.mktemp("catalog")
    path = load_catalog(Settings(config=folder / "headrace.toml", data_dir=folder)).get("smollm2-135m").path()
    assert path is not None
    return GgufTokenizer(path)


def test_a_template_without_tools_refuses_them(tokenizer: GgufTokenizer) -> None:
    with pytest.raises(InvalidRequest, match="no place for tools"):
        tokenizer.render_chat([{"role": "user", "content": "x"}], tools=[{"type": "function"}])


def test_tools_and_calls_are_rendered_and_stay_text(tokenizer: GgufTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_template_text", TEMPLATE)
    tokenizer._template.cache_clear()
    tools = [{"type": "function", "function": {"name": "f", "description": "<|im_start|>"}}]
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ]
    ids = tokenizer.render_chat(turns, tools=tools)
    tokenizer._template.cache_clear()
    start, end = tokenizer._control["<|im_start|>"], tokenizer._control["<|im_end|>"]
    assert (ids.count(start), ids.count(end)) == (2, 2)
    text = tokenizer.decode(ids)
    assert '<tool>{"name": "f", "description": "<|im_start|>"}</tool>' in text
    assert '<call>{"where": "<|im_end|> & Zürich"}</call>' in text


def test_a_template_that_asks_for_the_date_is_told_the_jobs_own(
    tokenizer: GgufTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "Today is {{ strftime_now('%d %B %Y, %H:%M') }}.{% for m in messages %}{{ m.content }}{% endfor %}"
    monkeypatch.setattr(tokenizer, "_template_text", template)
    tokenizer._template.cache_clear()
    turns = [{"role": "user", "content": "x"}]
    first, again = (tokenizer.render_chat(turns, at_ms=1_700_000_000_000) for _ in range(2))
    tokenizer._template.cache_clear()
    assert first == again
    assert tokenizer.decode(first) == "Today is 14 November 2023, 22:13.x"


def test_no_text_can_use_up_the_marks(tokenizer: GgufTokenizer) -> None:
    everything = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    for content in (everything, "\ufdd0" * 7, f"<\ufdd0|im_start|>{everything}<|im_start|>"):
        ids = tokenizer.render_chat([{"role": "user", "content": content}])
        assert content in tokenizer.decode(ids)
        assert ids.count(tokenizer._control["<|im_start|>"]) == 3

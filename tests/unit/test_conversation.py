"""Turns and variables as templates expect them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError
from tokenizers import pre_tokenizers

from schemas.inference import ChatRequestSchema
from tests.tokenizers import save_folder, train
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.conversation import for_template, named_in, variables_of
from workers.tokenizers.folder import read_folder

CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"place": "Oslo"}'}}
Tokenizers = Callable[[str], ByteLevelTokenizer]
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "Well.", "name": None},
    {"role": "tool", "tool_call_id": "call_1", "content": "12"},
]


@pytest.fixture
def tokenizer_of(tmp_path: Path) -> Iterator[Tokenizers]:
    """A tokenizer with a template."""
    made: list[ByteLevelTokenizer] = []

    def of(template: str) -> ByteLevelTokenizer:
        vocabulary = train(pre_tokenizers.ByteLevel(add_prefix_space=False))
        made.append(ByteLevelTokenizer(read_folder(save_folder(tmp_path / "model", vocabulary, template=template))))
        return made[-1]

    yield of
    for tokenizer in made:
        tokenizer.templates.close()


def test_turns_have_what_templates_read() -> None:
    _, called, result = for_template(TURNS, "{{ message.reasoning_content }}", arguments_as_text=False)
    assert called["tool_calls"][0]["function"] == {"name": "now", "arguments": {"place": "Oslo"}}
    assert called["reasoning_content"] == "Well."
    assert "name" not in called and "thinking" not in called
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "12", "name": "now"}
    _, called, _ = for_template(TURNS, "{{ message.thinking }}", arguments_as_text=True)
    assert called["tool_calls"][0]["function"]["arguments"] == '{"place": "Oslo"}'
    assert called["thinking"] == "Well."


def test_ids_are_short_where_a_template_wants_them_so() -> None:
    _, called, result = for_template(TURNS, "raise_exception('IDs must have length 9!')", arguments_as_text=False)
    assert called["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == 9


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        # As DeepSeek's, which put texts together.
        ("{{ '<call>' + call.function.arguments + '</call>' }}", '<call>{"place": "Oslo"}</call>'),
        ("<call>{{ call.function.arguments }}</call>", '<call>{"place": "Oslo"}</call>'),
        ("<call>{{ call.function.arguments | tojson }}</call>", '<call>{"place": "Oslo"}</call>'),
        (
            "<call>{% for k, v in call.function.arguments | items %}{{ k }}:{{ v }}{% endfor %}</call>",
            "<call>place:Oslo</call>",
        ),
    ],
)
def test_arguments_have_the_form_that_a_template_can_write(tokenizer_of: Tokenizers, template: str, shown: str) -> None:
    whole = "{% for m in messages %}{% for call in m.tool_calls or [] %}" + template + "{% endfor %}{% endfor %}."
    tokenizer = tokenizer_of(whole)
    assert tokenizer.decode(tokenizer.render_chat(TURNS)) == shown + "."


def test_requests_say_in_several_ways_whether_to_think() -> None:
    on, off = ({"enable_thinking": thinks, "thinking": thinks} for thinks in (True, False))
    assert variables_of({}) == {}
    assert variables_of({"enable_thinking": False}) == off
    assert variables_of({"thinking": {"type": "disabled"}}) == off
    assert variables_of({"thinking": {"type": "enabled", "budget_tokens": 5}}) == on
    assert variables_of({"reasoning_effort": "none"}) == off
    assert variables_of({"reasoning_effort": "low"}) == {**on, "reasoning_effort": "low"}
    assert variables_of({"reasoning_effort": "low", "chat_template_kwargs": {"thinking": False, "x": 1}}) == {
        "enable_thinking": True,
        "thinking": False,
        "reasoning_effort": "low",
        "x": 1,
    }


def test_a_template_is_told_what_it_reads() -> None:
    assert named_in("{% if enable_thinking is defined %}", {"enable_thinking": 1, "thinking": 2, "able": 3}) == {
        "enable_thinking": 1
    }


def test_variables_reach_the_template_and_stay_text(tokenizer_of: Tokenizers) -> None:
    template = "{{ 'thinks' if enable_thinking else 'does not' }} {{ greeting }} {{ messages | length }}"
    tokenizer = tokenizer_of(template)
    told = {"enable_thinking": True, "greeting": "<|eot|>", "messages": [], "unknown": 1}
    ids = tokenizer.render_chat(TURNS, variables=told)
    assert tokenizer.decode(ids) == "thinks <|eot|> 3"
    assert tokenizer.control["<|eot|>"] not in ids


BODY = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("chat_template_kwargs", {"messages": []}, "reserved"),
        ("chat_template_kwargs", {"bos_token": "x"}, "reserved"),
        ("chat_template_kwargs", {"_x": "x"}, "reserved"),
        ("chat_template_kwargs", {"x": "x" * 20_000}, "too large"),
        ("chat_template_kwargs", {f"x{i}": 1 for i in range(65)}, "too large"),
        ("chat_template_kwargs", [1], "must be an object"),
        ("thinking", "yes", "must be true, false, or an object"),
        ("thinking", {"type": "deep"}, "must be true, false, or an object"),
        ("enable_thinking", "yes", "must be true or false"),
        ("reasoning_effort", "", "must be 1 to 32 characters"),
        (
            "tool_choice",
            {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": []}},
            "allowed: auto, required",
        ),
        ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}, "must be 1 to 128"),
        (
            "tool_choice",
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
            "one of the tools",
        ),
        ("tool_choice", {"type": "function", "function": {"name": "g"}}, "one of the tools"),
        ("tool_choice", "any", "allowed: none, auto, required"),
    ],
)
def test_what_can_not_be_is_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequestSchema().load({**BODY, "tools": [{"type": "function", "function": {"name": "f"}}], field: value})
    assert says in str(caught.value.messages[field])


def test_functions_that_may_be_called_have_two_forms() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    nested = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools[:1]}}
    flat = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    loaded = [
        ChatRequestSchema().load({**BODY, "tools": tools, "tool_choice": choice}).tool_choice
        for choice in (nested, flat)
    ]
    assert loaded == [nested, nested]

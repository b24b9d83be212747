"""Chat templates are rendered as transformers renders them, and what a user wrote stays plain text."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import transformers
from tokenizers import pre_tokenizers

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import InvalidRequest, TemplateFailed
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.tokenizers import CONTROL, NASTY, save_folder, train
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.chat_template import ChatTemplates, Renderer
from workers.tokenizers.load import load_tokenizer

Of = Callable[[Any], ChatTemplates]
Tokenizers = Callable[[Path], ByteLevelTokenizer]

#: In the manner of Qwen's: tools as JSON in the first turn, calls as JSON in the assistant's turns.
TEMPLATE = """
{%- for tool in tools or [] %}<tool>{{ tool.function | tojson }}</tool>{% endfor %}
{%- for message in messages %}<|bos|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<call>{{ call.function.arguments | tojson }}</call>{% endfor %}<|eot|>
{%- endfor %}"""
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"where": "<|eot|> & Zürich"}'}}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "<|bos|>", "parameters": {"b": 1, "a": 2}}}]
HELLO = [{"role": "user", "content": "Hello"}]
TURNS = [{"role": "system", "content": "Be kind."}, *HELLO, {"role": "assistant", "content": "Hi"}, *HELLO]

#: What is rendered as transformers renders it: a template, and whether it gets tools.
SAME = {
    "turns": (TEMPLATE, False),
    "tools": (TEMPLATE, True),
    "named": (
        [
            {"name": "default", "template": "D{{ messages[0].content }}"},
            {"name": "tool_use", "template": "T{{ tools }}"},
        ],
        False,
    ),
    "tool_use": (
        [{"name": "default", "template": "D{{ tools }}"}, {"name": "tool_use", "template": "T{{ tools }}"}],
        True,
    ),
    "generation": ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", False),
    "tojson": ("{{ tools | tojson(indent=2, separators=(',', ' : '), sort_keys=True, ensure_ascii=True) }}", True),
    "not escaped": ("{{ tools | tojson(ensure_ascii=False) }}{{ 'é<&>' | tojson }}", True),
    "controls": (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
        False,
    ),
    "special tokens": ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}", False),
    "prompt": ("{{ messages[-1].content }}{% if add_generation_prompt %}<|bos|>assistant{% endif %}", False),
    "spaces": ("  {%- for m in messages %}\n  {{ m.content }}  \n  {% endfor %}\n", False),
    "namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        False,
    ),
    "undefined": ("{{ nothing }}{% if documents %}x{% endif %}{{ messages[0].name }}", False),
    "methods": ("{{ messages[0].content.upper().split('E') | join('|') }}{{ messages[0].items() | list }}", False),
}
#: What takes time or memory without end, and what breaks in other ways. `a power` is killed as the loops are.
ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long text": "{{ 'a' * 10**10 }}",
    "doubling": "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "padding": "{{ '%9999999999d' % 1 }}",
    "a list": "{{ ([0] * 10**9) | length }}",
    "more than any prompt": "{{ 'ab' * 9000000 }}",
    "a power": "{{ 9 ** (9 ** (9 ** 9)) }}",
}
BROKEN = {
    "a type": "{{ 1 + 'a' }}",
    "no end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a range": "{% for i in range(10**6) %}{% endfor %}",
    "nothing": "{{ nothing.of.this }}",
    "a number": "{{ 10 // 0 }}",
    "a format": "{{ '{' .format() }}",
    "out of the sandbox": "{{ messages.__class__.__mro__ }}",
    "a key": "{{ messages[0]['content']['x']['y'] }}",
}


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    """One process for all tests, as a model has one for all requests."""
    shared = Renderer()
    yield shared
    shared.close()


@pytest.fixture
def templates_of(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], ChatTemplates]:
    monkeypatch.setattr("workers.tokenizers.chat_template.Renderer", lambda: renderer)
    return lambda named: ChatTemplates(named if isinstance(named, dict) else {"default": named}, {})


@pytest.fixture
def tokenizer_of(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], ByteLevelTokenizer]:
    monkeypatch.setattr("workers.tokenizers.chat_template.Renderer", lambda: renderer)
    return lambda path: cast(ByteLevelTokenizer, load_tokenizer(str(path), "transformers"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer without a template."""
    return save_folder(
        tmp_path_factory.mktemp("models") / "model", train(pre_tokenizers.ByteLevel(add_prefix_space=False))
    )


def with_template(folder: Path, target: Path, template: Any) -> Path:
    oracle = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    return save_folder(target, oracle, template=template)


@pytest.mark.parametrize("name", SAME)
def test_a_template_is_rendered_as_transformers_renders_it(
    folder: Path, tmp_path: Path, name: str, tokenizer_of: Tokenizers
) -> None:
    template, with_tools = SAME[name]
    plain = [{"type": "function", "function": {"name": "f", "description": "ß & <b>", "parameters": {"b": 1, "a": 2}}}]
    tools = plain if with_tools else None
    path = with_template(folder, tmp_path / "model", template)
    ours, theirs = tokenizer_of(path), transformers.AutoTokenizer.from_pretrained(path)
    wanted = theirs.apply_chat_template(TURNS, tools=tools, add_generation_prompt=True, return_dict=False)
    assert ours.render_chat(TURNS, tools=tools) == wanted


def test_nasty_texts_come_through_a_template_as_they_are(
    folder: Path, tmp_path: Path, tokenizer_of: Tokenizers
) -> None:
    path = with_template(folder, tmp_path / "model", "<|bos|>{{ messages[0].content }}<|eot|>")
    ours, theirs = tokenizer_of(path), transformers.AutoTokenizer.from_pretrained(path)
    for text in NASTY:
        turns = [{"role": "user", "content": text}]
        assert ours.render_chat(turns) == theirs.apply_chat_template(turns, return_dict=False), text


def test_templates_in_files_go_before_those_of_the_configuration(
    folder: Path, tmp_path: Path, tokenizer_of: Tokenizers
) -> None:
    oracle = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    files = {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tools {{ tools }}"}
    path = save_folder(tmp_path / "model", oracle, template="configured", files=files)
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    assert (
        tokenizer_of(path).templates.templates
        == theirs.chat_template
        == {"default": "file", "tool_use": "tools {{ tools }}"}
    )


def test_without_a_template_chats_are_refused_with_what_to_do(folder: Path, tokenizer_of: Tokenizers) -> None:
    with pytest.raises(InvalidRequest, match="no chat template; use /completions"):
        tokenizer_of(folder).render_chat(HELLO)


def test_templates_without_a_default_are_refused_by_name(templates_of: Of) -> None:
    with pytest.raises(InvalidRequest, match="of the names rag, tool_use; use /completions"):
        templates_of({"tool_use": "tools", "rag": ""}).render(HELLO, None, at_ms=0)


def test_a_template_without_tools_refuses_them(templates_of: Of) -> None:
    with pytest.raises(InvalidRequest, match="no place for tools"):
        templates_of("{{ messages }}").render(HELLO, TOOLS, at_ms=0)


def test_tools_and_calls_are_rendered_and_stay_text(folder: Path, tmp_path: Path, tokenizer_of: Tokenizers) -> None:
    ours = tokenizer_of(with_template(folder, tmp_path / "model", TEMPLATE))
    turns = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
    ]
    ids = ours.render_chat(turns, tools=TOOLS)
    start, end = (ours.control[name] for name in CONTROL)
    assert (ids.count(start), ids.count(end)) == (2, 2)
    text = ours.decode(ids)
    assert '<tool>{"name": "f", "description": "<|bos|>", "parameters": {"b": 1, "a": 2}}</tool>' in text
    assert '<call>{"where": "<|eot|> & Zürich"}</call>' in text


@pytest.mark.parametrize(
    ("arguments", "rendered"),
    [
        ('{"a": 1}', "a=1"),
        ("", ""),
        ('{"a": "He said "x""}', 'raw={"a": "He said "x""}'),
        ("[1]", "raw=[1]"),
        ("[" * 9000, "raw=["),
    ],
)
def test_arguments_that_are_no_object_are_shown_as_they_are(
    folder: Path, tmp_path: Path, arguments: str, rendered: str, tokenizer_of: Tokenizers
) -> None:
    template = "{% for k, v in messages[0].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }}{% endfor %}|"
    ours = tokenizer_of(with_template(folder, tmp_path / "model", template))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    ids = ours.render_chat([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert ours.decode(ids).startswith(rendered)


def test_a_template_that_asks_for_the_date_is_told_the_jobs_own(templates_of: Of) -> None:
    template = "Today is {{ strftime_now('%d %B %Y, %H:%M') }}."
    at = datetime(2023, 11, 14, 22, 13, tzinfo=UTC)
    first, again = (templates_of(template).render(HELLO, None, at_ms=int(at.timestamp() * 1000)) for _ in range(2))
    assert first == again == "Today is 14 November 2023, 22:13."


def test_no_text_can_use_up_the_marks(tmp_path: Path, tokenizer_of: Tokenizers) -> None:
    path = load_catalog(Settings(config=tmp_path / "headrace.toml", data_dir=tmp_path)).get("smollm2-135m").path()
    ours = tokenizer_of(path)
    everything = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    for content in (everything, "\ufdd0" * 7, f"<\ufdd0|im_start|>{everything}<|im_start|>"):
        ids = ours.render_chat([{"role": "user", "content": content}])
        assert content in ours.decode(ids)
        assert ids.count(ours.control["<|im_start|>"]) == 3


def test_half_characters_in_messages_and_templates_become_whole(
    folder: Path, tmp_path: Path, tokenizer_of: Tokenizers
) -> None:
    ours = tokenizer_of(with_template(folder, tmp_path / "model", r"{{ messages[0].content }}{{ '\ud83d' }}"))
    ids = ours.render_chat([{"role": "user", "content": "a\udc00b \ud83d\ude0a"}])
    assert ours.decode(ids) == "a\ufffdb 😊\ufffd"


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_of_the_template_is_not_the_conversations(templates_of: Of, name: str) -> None:
    with pytest.raises(TemplateFailed, match="The fault is the template's"):
        templates_of(BROKEN[name]).render(HELLO, None, at_ms=0)


def test_what_a_template_says_against_a_conversation_is_passed_on(templates_of: Of) -> None:
    with pytest.raises(InvalidRequest, match="refuses these messages: Roles must alternate"):
        templates_of("{{ raise_exception('Roles must alternate') }}").render(HELLO, None, at_ms=0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "a power")) for name in ENDLESS]
)
def test_a_template_without_end_ends_and_the_next_request_is_served(templates_of: Of, name: str) -> None:
    templates = templates_of({"default": ENDLESS[name], "tool_use": "{{ tools | length }}"})
    with pytest.raises(TemplateFailed):
        templates.render(HELLO, None, at_ms=0)
    assert templates.render(HELLO, TOOLS, at_ms=0) == "1"


def test_a_renderer_that_somebody_killed_is_started_again() -> None:
    templates = ChatTemplates({"default": "{{ messages[0].content }}"}, {})
    assert templates.render(HELLO, None, at_ms=0) == "Hello"
    process = templates._renderer._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert templates.render(HELLO, None, at_ms=0) == "Hello"
    templates.close()


def test_templates_see_no_secrets_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://:secret@host")
    templates = ChatTemplates({"default": "x"}, {})
    templates.check()
    process = templates._renderer._process
    assert process is not None
    assert b"secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    templates.close()
    assert process.returncode is not None


@pytest.mark.parametrize("name", ["default", "tool_use"])
def test_a_template_that_is_none_fails_the_deployment(templates_of: Of, name: str) -> None:
    templates = templates_of({"default": "fine", name: "{% for %}"})
    with pytest.raises(DeploymentFailed, match=f"{name}.*line 1") as caught:
        templates.check()
    assert caught.value.reason is FailureReason.BAD_TEMPLATE


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", BROKEN["a type"], ENDLESS["a long text"]])
def test_a_template_that_fails_on_a_simple_conversation_is_told_at_deployment(templates_of: Of, template: str) -> None:
    (complaint,) = templates_of({"default": template, "tool_use": "{{ tools }}"}).check()
    assert "(default) does not render a simple conversation" in complaint

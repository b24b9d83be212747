"""Any text through tokenizers and chat templates: it comes back as it was, or a client hears why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from gateway.errors import HeadraceError, InvalidRequest, TemplateFailed
from gateway.store.codec import mended
from tests.fuzz.budget import budget
from tests.tokenizers import CONTROL, NASTY, save_folder, train, write_gguf
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.chat_template import ChatTemplates, Renderer
from workers.tokenizers.detokenizer import IncrementalDetokenizer
from workers.tokenizers.load import load_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|bos|>{{ m.role }}|{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.arguments | tojson }}{% endfor %}<|eot|>{% endfor %}{{ tools | tojson if tools }}"
)
#: Any code point, halves of surrogate pairs and noncharacters too; and what looks like a control token.
characters = st.characters(exclude_categories=[]) | st.sampled_from("\ud83d\ude0a\ufdd0\ufdef\uffff\u0301\u200d\x00")
texts = st.lists(
    st.text(characters, max_size=8) | st.sampled_from([*NASTY, *CONTROL, "<think>", "<|bos", "|>", "<|e", "<"]),
    max_size=6,
).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
calls = st.fixed_dictionaries(
    {
        "id": texts,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": texts, "arguments": texts | st.just('{"a": 1}')}),
    }
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts | st.none()},
        optional={"tool_calls": st.lists(calls, max_size=2) | st.none(), "name": texts, "reasoning_content": texts},
    ),
    min_size=1,
    max_size=4,
)
tools = st.none() | st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": st.dictionaries(texts, values, max_size=3)}),
    max_size=2,
)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    shared = Renderer()
    yield shared
    shared.close()


@pytest.fixture(scope="module", params=["llama-bpe", "folder"])
def tokenizer(
    request: pytest.FixtureRequest, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> ByteLevelTokenizer:
    """One of each kind of file, with an added token."""
    folder = tmp_path_factory.mktemp("tokenizer")
    oracle = train(pre_tokenizers.ByteLevel(add_prefix_space=False), extra=["<think>"])
    if request.param == "folder":
        path = save_folder(folder, oracle, template=TEMPLATE)
    else:
        path = write_gguf(folder / "a.gguf", oracle, request.param, kinds={"<think>": 4}, chat_template=TEMPLATE)
    found = cast(ByteLevelTokenizer, load_tokenizer(str(path), "openvino"))
    found.templates._renderer = renderer
    return found


@budget()
@given(text=texts)
def test_any_text_comes_back_as_it_was(text: str, tokenizer: ByteLevelTokenizer) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == mended(text)
    assert not set(tokenizer.control.values()) & set(ids)
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces = [detokenizer.push([i])[0] for i in ids]
    assert "".join([*pieces, detokenizer.push([], final=True)[0]]) == mended(text)


@budget()
@given(messages=turns, functions=tools)
def test_any_conversation_is_rendered_and_its_texts_stay_text(
    messages: list[dict[str, Any]], functions: list[dict[str, Any]] | None, tokenizer: ByteLevelTokenizer
) -> None:
    ids = tokenizer.render_chat(messages, tools=functions)
    begin, end = (tokenizer.control[name] for name in CONTROL)
    assert (ids.count(begin), ids.count(end)) == (len(messages), len(messages))
    text = tokenizer.decode(ids)
    assert all(mended(message["content"]) in text for message in messages if message["content"])


WORDS = (
    "messages tools m ns loop range namespace raise_exception strftime_now dict none true content role __class__ "
    "format tojson join length items first default replace split {{ }} {% %} {# #} {%- -%} for in endfor if endif set "
    "= macro endmacro generation endgeneration break continue ( ) [ ] | . , ~ + * ** ' \" 99999 10"
)
words = st.sampled_from(WORDS.split())


@budget()
@given(
    template=st.lists(words | st.text(characters, max_size=3), max_size=20).map(" ".join)
    | st.lists(words, max_size=8).map(lambda parts: "{{ " + " ".join(parts) + " }}")
    | st.lists(words, max_size=8).map(lambda parts: "{% for m in messages %}{{ " + " ".join(parts) + " }}{% endfor %}"),
    message=texts,
)
def test_any_template_renders_refuses_or_fails(template: str, message: str, renderer: Renderer) -> None:
    templates = ChatTemplates({"default": mended(template)}, {"bos_token": "<|bos|>"})
    templates._renderer = renderer
    try:
        text = templates.render([{"role": "user", "content": mended(message)}], None, at_ms=0)
    except (InvalidRequest, TemplateFailed) as error:
        assert isinstance(error, HeadraceError)
    else:
        assert text == mended(text)

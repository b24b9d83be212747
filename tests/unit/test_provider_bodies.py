"""What each protocol is told of a request: the bodies that are sent, and what is refused or left out."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.inference.parameters import with_defaults
from gateway.models.entry import Model, Provider, Range
from gateway.models.protocols import refusals, unsendable, without
from workers.providers.base import UpstreamRequest
from workers.providers.protocols import anthropic_bodies, openai_bodies

OWN = Provider("openai", "openai")
VLLM = Provider("vllm", "openai", "http://127.0.0.1:1/v1")
ANTHROPIC = Provider("an", "anthropic")
HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
FORMED = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
PNG = base64.b64encode(b"\x89PNG").decode()


def by(provider: Provider, **more: Any) -> Model:
    return Model("m", "M", "", "1", ("chat", "tool_use"), provider=provider.name, via=provider, upstream="up", **more)


def ask(provider: Provider, request: dict[str, Any], **model: Any) -> UpstreamRequest:
    kind = "chat" if "messages" in request else "completion" if "prompt" in request else "embedding"
    return UpstreamRequest(kind, by(provider, **model), request, [0])


def tool(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}, **more}}


CUSTOM = {"type": "custom", "custom": {"name": "code", "format": {"type": "text"}}}
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]},
}
#: What OpenAI's own server knows.
OPENAIS: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        }
    ],
    "response_format": FORMED,
    "reasoning_effort": "low",
    "logit_bias": {"50256": -100},
    "tools": [tool(strict=True), CUSTOM],
    "tool_choice": {"type": "custom", "custom": {"name": "code"}},
    "parallel_tool_calls": False,
    "user": "u",
    "seed": 3,
}
PASSED_ON = {
    "verbosity": "low",
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "prediction": {"type": "content", "content": "x"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "web_search_options": {},
}
#: What other servers know besides.
OTHERS = {
    "top_k": 4,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "chat_template_kwargs": {"enable_thinking": False},
    "enable_thinking": False,
    "thinking": {"type": "disabled"},
    "structured_outputs": {"regex": "a+"},
}
OURS = {"priority": "background", "detach": True, "timeout": 3.0, "store": False, "stream": True}


def test_all_that_a_client_says_is_sent_to_a_server_of_openais_protocol() -> None:
    request = {**OPENAIS, **OTHERS, **OURS, "passed_on": {**PASSED_ON, "ignore_eos": True}, "max_tokens": 5}
    sent = openai_bodies.chat(ask(VLLM, request))
    expected = {**OPENAIS, **OTHERS, **PASSED_ON, "ignore_eos": True, "max_tokens": 5}
    called = {"model": "up", "stream": True, "stream_options": {"include_usage": True}}
    assert sent == {**expected, **called}
    assert not refusals(by(VLLM), request)
    assert not unsendable(by(VLLM), request)


def test_openais_own_server_is_sent_what_it_knows() -> None:
    request = {**OPENAIS, "passed_on": {**PASSED_ON, "ignore_eos": True}, "store": False, "max_tokens": 5}
    sent = openai_bodies.chat(ask(OWN, request))
    called = {"model": "up", "stream": True, "stream_options": {"include_usage": True}}
    assert sent == {**OPENAIS, **PASSED_ON, **called, "max_completion_tokens": 5, "store": False}
    assert unsendable(by(OWN), request) == ["ignore_eos"]
    assert not refusals(by(OWN), request)


@pytest.mark.parametrize("name", ["top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "thinking"])
def test_what_openais_own_server_does_not_know_is_refused_or_left_out(name: str) -> None:
    request = {"messages": HI, name: OTHERS[name]}
    assert list(refusals(by(OWN), request)) == unsendable(by(OWN), request) == [name]
    assert name not in openai_bodies.chat(ask(OWN, request))
    left = without(request, [name])
    assert not refusals(by(OWN), left)
    with pytest.raises(InvalidRequest, match=f"{name}: Got"):
        with_defaults(by(OWN), request)


def test_what_does_nothing_is_not_refused() -> None:
    request = {"messages": HI, "top_k": 0, "repetition_penalty": 1.0, "min_p": 0.0, "logit_bias": {}, "seed": None}
    for provider in (OWN, ANTHROPIC):
        assert not refusals(by(provider), request)
        assert not unsendable(by(provider), request)


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        ({"json": SCHEMA}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
        ({"json_object": True}, {"type": "json_object"}),
    ],
)
def test_a_form_in_vllms_words_is_said_in_openais(form: dict[str, Any], sent: dict[str, Any]) -> None:
    request = {"messages": HI, "structured_outputs": form}
    body = openai_bodies.chat(ask(OWN, request))
    assert body["response_format"] == sent
    assert "structured_outputs" not in body
    assert openai_bodies.chat(ask(VLLM, request))["structured_outputs"] == form
    assert list(refusals(by(OWN), {"messages": HI, "structured_outputs": {"choice": ["a"]}})) == ["structured_outputs"]


def test_other_likely_tokens_are_asked_for() -> None:
    chat = openai_bodies.chat(ask(VLLM, {"messages": HI, "logprobs": True, "top_logprobs": 3}))
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 3)
    completion = openai_bodies.completion(ask(VLLM, {"prompt": "a", "logprobs": True, "top_logprobs": 3}))
    assert completion["logprobs"] == 3


def test_a_completion_has_words_of_its_own() -> None:
    request = {"prompt": "a", "logit_bias": {"1": 5}, "passed_on": {"suffix": "b", "best_of": 2, "verbosity": "low"}}
    sent = openai_bodies.completion(ask(OWN, request, upstreams={"completion": "instruct"}))
    assert (sent["suffix"], sent["best_of"], sent["logit_bias"]) == ("b", 2, {"1": 5})
    assert unsendable(by(OWN, upstreams={"completion": "instruct"}), request) == ["verbosity"]
    assert unsendable(by(OWN), request) == ["best_of", "suffix"], "it is asked as a chat"
    assert list(refusals(by(OWN), {"prompt": [1, 2]})) == ["prompt"]


def test_what_is_passed_on_never_replaces_what_we_send() -> None:
    sent = openai_bodies.chat(ask(VLLM, {"messages": HI, "passed_on": {"model": "x", "stream": False, "messages": []}}))
    assert (sent["model"], sent["stream"], sent["messages"]) == ("up", True, HI)


def test_calls_of_free_tools_go_back_without_what_others_have_put_there() -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "code", "input": "1 + 1", "odd": 1}, "beside": 2}
    turns = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call], "provider": "else"},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    sent = openai_bodies.chat(ask(VLLM, {"messages": turns, "tools": [CUSTOM]}))["messages"][1]
    plain = {"id": "c1", "type": "custom", "custom": {"name": "code", "input": "1 + 1"}}
    assert sent == {"role": "assistant", "content": None, "tool_calls": [plain]}


# -- Anthropic


def told(request: dict[str, Any], provider: Provider = ANTHROPIC, **model: Any) -> dict[str, Any]:
    """The body, of a request that is not refused."""
    assert not refusals(by(provider, **model), request)
    return anthropic_bodies.message(ask(provider, request, **model), "")


def content(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file(**more: Any) -> dict[str, Any]:
    return {"type": "file", "file": more}


def test_images_and_documents_become_blocks() -> None:
    text = base64.b64encode("Grüße".encode()).decode()
    request = content(
        {"type": "text", "text": "Look."},
        image(f"data:image/png;base64,{PNG}"),
        image("https://example.com/a.jpg"),
        file(file_data=f"data:application/pdf;base64,{PNG}", filename="a.pdf"),
        file(file_data=f"data:text/plain;base64,{text}"),
    )
    (turn,) = told(request)["messages"]
    assert turn["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
    ]


def test_an_image_alone_is_something_to_say_and_so_is_the_result_of_a_tool() -> None:
    picture = image(f"data:image/png;base64,{PNG}")
    assert told(content(picture))["messages"][0]["content"][0]["type"] == "image"
    turns = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "a"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": [picture]},
    ]
    (result,) = told({"messages": turns, "tools": [tool()]})["messages"][-1]["content"]
    assert (result["tool_use_id"], result["content"][0]["type"]) == ("c1", "image")


@pytest.mark.parametrize(
    "part",
    [
        image("data:image/bmp;base64,AA=="),
        image("data:image/png,raw"),
        image("data:image/png;base64,A"),
        image("ftp://example.com/a.png"),
        {"type": "image_url", "image_url": {}},
        file(file_id="file-1"),
        file(file_data="data:application/zip;base64,AA=="),
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "new"},
    ],
)
def test_a_part_that_anthropic_does_not_take_is_named(part: dict[str, Any]) -> None:
    assert list(refusals(by(ANTHROPIC), content(part))) == ["messages.0.content"]


def test_instructions_hold_texts_only() -> None:
    parts = [{"type": "text", "text": "Be brief."}, image("https://example.com/a.png")]
    request = {"messages": [{"role": "system", "content": parts}, *HI]}
    assert list(refusals(by(ANTHROPIC), request)) == ["messages.0.content"]
    assert told({"messages": [{"role": "system", "content": parts[:1]}, *HI]})["system"] == "Be brief."


@pytest.mark.parametrize(
    "form",
    [
        {"response_format": FORMED},
        {"structured_outputs": {"json": SCHEMA}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
    ],
)
def test_a_schema_is_the_form_of_an_answer(form: dict[str, Any]) -> None:
    assert told({"messages": HI, **form})["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [CUSTOM]}, "tools.0"),
    ],
)
def test_what_changes_the_answer_is_refused_on_both_faces(request_: dict[str, Any], field: str) -> None:
    request = {"messages": HI, **request_}
    assert list(refusals(by(ANTHROPIC), request)) == [field]
    assert not unsendable(by(ANTHROPIC), request)


def test_hints_are_refused_on_the_strict_paths_and_left_out_on_the_others() -> None:
    request = {
        "messages": [{"role": "user", "name": "Ann", "content": "hi"}],
        "seed": 3,
        "logit_bias": {"1": 2},
        "presence_penalty": 0.5,
        "passed_on": {"verbosity": "low", "service_tier": "flex", "metadata": {"a": "b"}, "safety_identifier": "s"},
    }
    hints = ["logit_bias", "messages.0.name", "presence_penalty", "seed"]
    assert sorted(refusals(by(ANTHROPIC), request)) == hints
    found = unsendable(by(ANTHROPIC), request)
    assert found == sorted([*hints, "metadata", "service_tier", "verbosity"])
    left = without(request, found)
    assert left == {"messages": HI, "passed_on": {"safety_identifier": "s"}}
    assert request["messages"][0]["name"] == "Ann", "the request itself is as it was"
    assert told(left)["metadata"] == {"user_id": "s"}


@pytest.mark.parametrize(("tier", "sent"), [("auto", "auto"), ("default", "standard_only"), ("flex", None)])
def test_a_service_tier_is_told_in_their_words(tier: str, sent: str | None) -> None:
    assert told({"messages": HI, "passed_on": {"service_tier": tier}}).get("service_tier") == sent


@pytest.mark.parametrize(
    ("choice", "sent", "names"),
    [
        ("auto", None, ["a", "b"]),
        ("none", {"type": "none"}, ["a", "b"]),
        ("required", {"type": "any"}, ["a", "b"]),
        ({"type": "function", "function": {"name": "b"}}, {"type": "tool", "name": "b"}, ["a", "b"]),
        (ALLOWED, {"type": "any"}, ["b"]),
    ],
)
def test_which_tools_may_be_called(choice: Any, sent: Any, names: list[str]) -> None:
    body = told({"messages": HI, "tools": [tool("a", strict=True), tool("b")], "tool_choice": choice})
    assert body.get("tool_choice") == sent
    assert [one["name"] for one in body["tools"]] == names
    assert body["tools"][0].get("strict") == (True if names[0] == "a" else None)


def test_one_call_at_a_time() -> None:
    body = told({"messages": HI, "tools": [tool()], "parallel_tool_calls": False})
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


LONG = {"max_tokens": 64_000, "default_max_tokens": 1000}
BUDGET = {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize(
    ("said", "thinking"),
    [
        ({"reasoning_effort": "low"}, BUDGET),
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, BUDGET),
        ({"thinking": {"type": "adaptive"}}, {"type": "adaptive"}),
        ({"thinking": {"type": "disabled"}}, {"type": "disabled"}),
        ({"enable_thinking": True}, {"type": "enabled", "budget_tokens": 4096}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"type": "disabled"}),
        ({"reasoning_effort": "high", "max_tokens": 2000}, {"type": "enabled", "budget_tokens": 1600}),
        ({"reasoning_effort": "high", "max_tokens": 1200}, None),
        ({"reasoning_effort": "low", "tools": [tool()], "tool_choice": "required"}, None),
        ({"reasoning_effort": "low", "tools": [tool()], "tool_choice": "auto"}, BUDGET),
        ({}, None),
    ],
)
def test_effort_is_a_budget_to_think(said: dict[str, Any], thinking: Any) -> None:
    body = told({"messages": HI, **said}, **LONG)
    assert body.get("thinking") == thinking
    assert body["max_tokens"] > (thinking or {}).get("budget_tokens", 0)


def test_newer_models_are_told_an_effort() -> None:
    newer = Provider("an", "anthropic", reasoning="effort")
    body = told({"messages": HI, "reasoning_effort": "minimal"}, newer, **LONG)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    assert told({"messages": HI, "reasoning_effort": "none"}, newer)["thinking"] == {"type": "disabled"}


def test_numbers_that_thoughts_do_not_allow_are_named() -> None:
    request = {"messages": HI, "reasoning_effort": "low", "temperature": 0.5, "top_k": 3, "top_p": 1.0}
    assert unsendable(by(ANTHROPIC, **LONG), request) == ["temperature", "top_k"]
    model = by(ANTHROPIC, temperature=Range(0, 1, 0.7), **LONG)
    assert "temperature" not in with_defaults(model, {"messages": HI, "reasoning_effort": "low"})
    assert with_defaults(model, {"messages": HI})["temperature"] == 0.7


def test_a_model_does_not_begin_to_think_among_calls() -> None:
    call = {"id": "c1", "function": {"name": "a"}}
    turns = [*HI, {"role": "assistant", "content": "", "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": "c1", "content": "2"})
    request = {"messages": turns, "tools": [tool()], "reasoning_effort": "low"}
    assert "thinking" not in told(request, **LONG)
    turns[1]["thinking_blocks"] = [{"type": "thinking", "thinking": "hm", "signature": "S"}]
    assert told(request, **LONG)["thinking"] == BUDGET
    assert "thinking" in told({**request, "messages": [*turns, *HI]}, **LONG)


def test_local_models_are_told_by_others() -> None:
    local = Model("m", "M", "", "1", ("chat",))
    assert not refusals(local, {"messages": HI, "seed": 3})
    assert not unsendable(local, {"messages": HI, "passed_on": {"a": 1}})

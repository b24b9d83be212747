"""Bodies of OpenAI's protocol: what its own server is asked, and what others are. Knows no SDK.

What the client gave is sent, and nothing else; what is ours (who waits, for how long, what is kept) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.jobs.answer import extras
from gateway.models.protocols import openai as words
from workers.providers.base import UpstreamRequest

#: What a request may say in the protocol's own words, if it says so.
_SAME = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "user",
    "n",
    "logit_bias",
    "response_format",
    "reasoning_effort",
)
_CHAT = ("tools", "tool_choice", "parallel_tool_calls")
#: Words that servers other than OpenAI's know.
_OTHERS = (
    "top_k",
    "repetition_penalty",
    "min_p",
    "structured_outputs",
    "chat_template_kwargs",
    "enable_thinking",
    "thinking",
)
#: What the protocol knows of a turn, and of a call in it.
_TURN = ("role", "content", "name", "tool_calls", "tool_call_id")
_CALL = ("id", "type")
#: Of each type of call its names.
_CALLED = {"function": ("name", "arguments"), "custom": ("name", "input")}
#: Parts of an answer that the protocol takes back in no request.
_ANSWER_ONLY = ("annotations", extras.PROVIDER)


def completion(ask: UpstreamRequest) -> dict[str, Any]:
    """Body of a text completion."""
    request = ask.request
    prompt = request["prompt"] if ask.whole else ask.prompt + ask.before if ask.before else ask.prompt
    sent = {**_common(ask), "prompt": prompt}
    if ask.max_tokens:
        sent["max_tokens"] = ask.max_tokens
    if request.get("logprobs"):
        sent["logprobs"] = request.get("top_logprobs") or 0
    return sent


def chat(ask: UpstreamRequest) -> dict[str, Any]:
    """Body of a chat, also for a completion where there are none."""
    request, provider = ask.request, ask.provider
    if ask.kind == "chat":
        messages = [_turn(turn, provider.name, named=ask.named) for turn in request["messages"]]
    else:
        messages = [{"role": "user", "content": ask.prompt}]
    sent = _common(ask) | _given(request, _CHAT)
    if ask.max_tokens:
        sent["max_completion_tokens" if words.own(ask.model) else "max_tokens"] = ask.max_tokens
    if request.get("logprobs"):
        sent |= {"logprobs": True, **({"top_logprobs": most} if (most := request.get("top_logprobs")) else {})}
    if ask.before:
        begun: dict[str, Any] = {"role": "assistant", "content": ask.before}
        if provider.continuation == "prefix":
            begun["prefix"] = True
        if provider.continuation == "continue_final_message":
            sent |= {"continue_final_message": True, "add_generation_prompt": False}
        messages.append(begun)
    return {**sent, "messages": messages}


def embedding(ask: UpstreamRequest) -> dict[str, Any]:
    """Body of a request for vectors."""
    sent = {"model": ask.upstream, "input": ask.request["input"], "encoding_format": "base64"}
    return _passed_on(ask) | sent | _given(ask.request, ("dimensions", "user"))


def _common(ask: UpstreamRequest) -> dict[str, Any]:
    request, own = ask.request, words.own(ask.model)
    sent = _given(request, _SAME if own else (*_SAME, *_OTHERS))
    if ask.before or len(ask.indexes) == 1:
        sent.pop("n", None)
    if own and (form := _own_form(request)):
        sent["response_format"] = form
    if own and request.get("store") is False:  # what we do not keep, it is not to keep either
        sent["store"] = False
    return {
        **_passed_on(ask),
        "model": ask.upstream,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sent,
    }


def _passed_on(ask: UpstreamRequest) -> dict[str, Any]:
    """What the client has said that nobody here reads, as far as the server knows it."""
    left_out = words.strange(ask.model, ask.request)
    return {name: value for name, value in (ask.request.get("passed_on") or {}).items() if name not in left_out}


def _own_form(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """A form in the words of vLLM or llama.cpp as OpenAI's own server is asked for it."""
    form = request.get("structured_outputs") or {}
    given = request.get("response_format") or {}
    if given.get("type") == "json_object" and given.get("schema") is not None:  # as llama.cpp's clients say it
        form = {"json": given["schema"]}
    if "json" in form:
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form["json"]}}
    return {"type": "json_object"} if form.get("json_object") else None


def _turn(turn: Mapping[str, Any], provider: str, *, named: bool) -> dict[str, Any]:
    """A turn as this provider is told it: with what it has put there itself, but not what others have."""
    sent = _given(turn, _TURN)
    calls = turn.get("tool_calls")
    if extras.belong(turn, provider, named=named):
        sent |= {name: value for name, value in turn.items() if name not in _ANSWER_ONLY}
        if isinstance(audio := turn.get("audio"), Mapping):
            sent["audio"] = _given(audio, ("id",))
        if "reasoning" in sent and sent.get("reasoning_content") == sent["reasoning"]:
            del sent["reasoning_content"]
    elif calls:
        sent["tool_calls"] = [_plain_call(call) for call in calls]
    if not sent["content"] and (calls or sent.get("refusal") or sent.get("audio")):
        sent["content"] = None
    return sent


def _given(request: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What is said of some fields: also 0, false and an empty text."""
    return {name: request[name] for name in names if request.get(name) is not None}


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    called = {kind: _given(call[kind], names) for kind, names in _CALLED.items() if kind in call}
    return {**_given(call, _CALL), **called}

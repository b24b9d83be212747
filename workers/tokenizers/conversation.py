"""Turns of a conversation, as chat templates expect them: the API's form differs in a few places. Knows no tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.jobs.answer.tool_calls import as_object
from schemas.base.reasoning import RESERVED

#: Names under which templates read the reasoning of a turn.
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
#: Templates of Mistral's take no other ids of calls, and say so.
_SHORT_IDS, _SHORT_ID = "length 9", re.compile(r"[a-zA-Z0-9]{9}")
#: Variables that tell a template whether to think.
_SWITCHES = ("enable_thinking", "thinking")


def for_template(turns: Iterable[Mapping[str, Any]], template: str, *, arguments_as_text: bool) -> list[dict[str, Any]]:
    """The turns without nulls, with the arguments of calls as objects (the API has them as text), the names of
    functions beside their results, and reasoning under the names that the template knows.
    """
    names: dict[str, str] = {}
    found = []
    for turn in turns:
        given = {name: value for name, value in turn.items() if value is not None}
        if calls := given.get("tool_calls"):
            names |= {call["id"]: call["function"]["name"] for call in calls if "id" in call and "function" in call}
            given["tool_calls"] = [_call(call, template, as_text=arguments_as_text) for call in calls]
        if given.get("role") == "tool" and (call_id := given.get("tool_call_id")):
            if call_id in names:
                given.setdefault("name", names[call_id])
            given["tool_call_id"] = _id(call_id, template)
        if isinstance(thought := given.get(_THOUGHTS[0]), str):
            given |= {name: thought for name in _THOUGHTS[1:] if name in template and name not in given}
        found.append(given)
    return found


def variables_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a request tells the template besides the conversation."""
    effort = request.get("reasoning_effort")
    thinks = request.get("enable_thinking")
    if thinks is None and (said := request.get("thinking")) is not None:
        thinks = said if isinstance(said, bool) else said.get("type") != "disabled"
    if thinks is None and effort:
        thinks = effort != "none"
    told = dict.fromkeys(_SWITCHES, thinks) if thinks is not None else {}
    if effort and effort != "none":
        told["reasoning_effort"] = effort
    return {**told, **(request.get("chat_template_kwargs") or {})}


def named_in(template: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that a template reads."""
    free = {name: value for name, value in variables.items() if name not in RESERVED}
    return {name: value for name, value in free.items() if re.search(rf"\b{re.escape(name)}\b", template)}


#: A conversation with a call, to see how a template writes its arguments.
_ASKED: Sequence[Mapping[str, Any]] = ({"role": "user", "content": "What time is it in Oslo?"},)
_ARGUMENTS = {"place": "Oslo"}


def trial_of_calls(arguments: Any) -> list[Mapping[str, Any]]:
    """A conversation in which a function was called with these arguments."""
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": arguments}}
    return [
        *_ASKED,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "now", "content": "12:00"},
    ]


def is_written_well(rendered: str) -> bool:
    """Whether a rendered trial has its arguments, and not as Python writes them."""
    return "place" in rendered and "{'place'" not in rendered


def _call(call: Mapping[str, Any], template: str, *, as_text: bool) -> dict[str, Any]:
    if "function" not in call:
        return dict(call)
    arguments = call["function"].get("arguments") or ""
    shown = (arguments or "{}") if as_text else as_object(arguments)
    function = {**call["function"], "arguments": shown}
    return {**call, **({"id": _id(call["id"], template)} if "id" in call else {}), "function": function}


def _id(call_id: str, template: str) -> str:
    if _SHORT_IDS not in template or _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.blake2b(call_id.encode(), digest_size=8).hexdigest()[:9]

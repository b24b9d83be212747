"""Tools in the turns of a conversation, as in Hermes: for models whose chat template has no place for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def has_place(templates: Iterable[str]) -> bool:
    """Whether a template knows tools; a model without any template has no place for turns either."""
    texts = list(templates)
    return not texts or any("tools" in text for text in texts)


def described(turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns with the tools in a system turn, calls as text, and their results as turns of the user."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        if turn.get("role") == "tool":
            found.append({"role": "user", "content": f"<tool_response>\n{turn.get('content') or ''}\n</tool_response>"})
        elif calls := turn.get("tool_calls"):
            others = {name: value for name, value in turn.items() if name != "tool_calls"}
            texts = [str(turn.get("content") or ""), *map(_call, calls)]
            found.append({**others, "content": "\n".join(filter(None, texts))})
        else:
            found.append(dict(turn))
    if not tools:
        return found
    text = _TOOLS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if found and found[0].get("role") == "system":
        return [{**found[0], "content": f"{found[0].get('content') or ''}\n\n{text}".strip()}, *found[1:]]
    return [{"role": "system", "content": text}, *found]


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    name = json.dumps(function.get("name"), ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {function.get("arguments") or "{}"}}}\n</tool_call>'

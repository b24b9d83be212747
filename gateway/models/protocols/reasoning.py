"""Whether a model of Anthropic's protocol is to think, and for how long: in OpenAI's words, and in vLLM's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.models.entry import Model
from schemas.base.tool_choice import is_forced

#: Tokens to think for, by OpenAI's words for the effort. The API takes 1,024 at least.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 4096, "high": 16_384, "xhigh": 32_768, "max": 32_768}
LEAST_BUDGET = 1024
#: OpenAI's words for the effort that are others there.
_EFFORTS = {"minimal": "low"}
#: The effort of a request that only says that the model is to think.
DEFAULT_EFFORT = "medium"
#: The part of the longest answer that thoughts may have.
_SHARE = (4, 5)


def thinks(model: Model, request: Mapping[str, Any]) -> bool:
    """Whether the model is to think."""
    wanted = thinking(model, request)
    return wanted is not None and wanted["type"] != "disabled"


def thinking(model: Model, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The API's `thinking`; None = not said.

    Not while a call is forced, nor among calls of tools that were made without thoughts, which the API refuses; and not
    if the answer has no room for them.
    """
    wanted = _wanted(request, adaptive=_by_effort(model))
    if wanted is None or wanted["type"] == "disabled":
        return wanted
    if is_forced(request.get("tool_choice")) or _calls_without_thoughts(request.get("messages") or ()):
        return None
    if wanted["type"] != "enabled":
        return wanted
    given = wanted.get("budget_tokens")
    most = (request.get("max_tokens") or model.told_answer) * _SHARE[0] // _SHARE[1]
    budget = min(given if isinstance(given, int) else BUDGETS[DEFAULT_EFFORT], most)
    return {**wanted, "budget_tokens": budget} if budget >= LEAST_BUDGET else None


def effort(model: Model, request: Mapping[str, Any]) -> str | None:
    """The API's `effort`, for models that take it in place of a budget; None = not said."""
    said = request.get("reasoning_effort")
    return _EFFORTS.get(said, said) if isinstance(said, str) and said != "none" and _by_effort(model) else None


def _by_effort(model: Model) -> bool:
    return model.via is not None and model.via.reasoning == "effort"


def _wanted(request: Mapping[str, Any], *, adaptive: bool) -> dict[str, Any] | None:
    given = request.get("thinking")
    if isinstance(given, Mapping) and isinstance(given.get("type"), str):
        return dict(given)
    level = _level(request)
    if level is None:
        return None
    if level == "none":
        return {"type": "disabled"}
    budget = BUDGETS.get(level, BUDGETS[DEFAULT_EFFORT])
    return {"type": "adaptive"} if adaptive else {"type": "enabled", "budget_tokens": budget}


def _level(request: Mapping[str, Any]) -> str | None:
    """The effort that a request asks for, in OpenAI's words; None = it does not say."""
    if isinstance(said := request.get("reasoning_effort"), str):
        return said
    kwargs = request.get("chat_template_kwargs") or {}
    words = (request.get("enable_thinking"), request.get("thinking"), kwargs.get("enable_thinking"))
    wanted = next((word for word in words if isinstance(word, bool)), None)
    return None if wanted is None else DEFAULT_EFFORT if wanted else "none"


def _calls_without_thoughts(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last turns are results of calls whose turn has no signed thoughts."""
    for turn in reversed(turns):
        if turn["role"] == "assistant":
            return bool(turn.get("tool_calls")) and not turn.get("thinking_blocks")
        if turn["role"] != "tool":
            return False
    return False

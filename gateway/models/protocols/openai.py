"""OpenAI's protocol: its own server refuses whatever it does not know, other servers have words of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.models.entry import Model

#: What we read ourselves that OpenAI's own server has no word for, with the value at which it does nothing.
_OTHERS = {
    "top_k": 0,
    "repetition_penalty": 1,
    "min_p": 0,
    "chat_template_kwargs": {},
    "enable_thinking": None,
    "thinking": None,
}
#: What OpenAI's own server knows of what we do not read ourselves.
OWN_CHAT = frozenset(
    (
        "audio",
        "function_call",
        "functions",
        "metadata",
        "modalities",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "verbosity",
        "web_search_options",
    )
)
OWN_COMPLETION = frozenset(("best_of", "suffix"))
#: The one form in which its own server takes what vLLM's clients call structured outputs.
_FORMS = ("json", "json_object")


def own(model: Model) -> bool:
    """Whether it is OpenAI's own server."""
    return model.via is not None and not model.via.base_url


def has_completions(model: Model) -> bool:
    """OpenAI's own server offers completions for few models; the catalog names them. Others offer them for all."""
    return not own(model) or "completion" in model.upstreams


def hints(model: Model, request: Mapping[str, Any]) -> dict[str, str]:
    """See `Words`."""
    if not own(model):
        return {}
    return {
        name: f"Got {request[name]}; OpenAI's own server has no {name}. Leave it out."
        for name, neutral in _OTHERS.items()
        if request.get(name) not in (None, neutral)
    }


def refused(model: Model, request: Mapping[str, Any]) -> dict[str, str]:
    """See `Words`."""
    found = {}
    if request.get("echo") and request.get("logprobs"):
        found["echo"] = "Log probabilities of the prompt are not passed on; leave out echo or logprobs."
    elif request.get("echo") and _has_ids(request["prompt"]):
        found["echo"] = "Only local models know the text of token ids; leave out echo."
    kind = next(iter(request.get("structured_outputs") or ()), None)
    if own(model) and kind is not None and kind not in _FORMS:
        found["structured_outputs"] = f"Got {kind}; OpenAI's own server takes {' and '.join(_FORMS)} only."
    if "prompt" in request and not has_completions(model) and _has_ids(request["prompt"]):
        found["prompt"] = "Got token ids; this model is asked by chats, which are texts."
    return found


def strange(model: Model, request: Mapping[str, Any]) -> list[str]:
    """See `Words`."""
    if not own(model):
        return []
    is_chat = "messages" in request or not has_completions(model)
    known = OWN_CHAT if is_chat else OWN_COMPLETION
    return [name for name in request.get("passed_on") or () if name not in known]


def _has_ids(prompt: Any) -> bool:
    return isinstance(prompt, list) and any(not isinstance(one, str) for one in prompt)

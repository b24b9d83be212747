"""What a request asks of an engine on our own devices beside the usual, and whether that engine can do it.

So that it is refused before it is admitted, naming the engines that can. Knows no remote model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.models.engines import SPECS, able
from gateway.models.entry import Model

#: Fields of a request, and the values at which they ask for nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "top_k": (None, 0),
    "seed": (None,),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "min_p": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
}


def beyond(model: Model, request: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the engine of a local model can't do of a request: by field, what is wrong."""
    spec = SPECS.get(model.engine)
    if spec is None:
        return {}
    lacking = {field: feature for field, feature in features_of(request).items() if feature not in spec.can}
    return {field: [_refusal(model, field, feature)] for field, feature in lacking.items()}


def features_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The features that a request uses, by the field that asks for them."""
    asked = {name: name for name, neutral in _NEUTRAL.items() if request.get(name) not in neutral}
    if request.get("logprobs") and request.get("top_logprobs"):
        asked["logprobs" if "prompt" in request else "top_logprobs"] = "top_logprobs"
    if request.get("logprobs") and request.get("echo"):
        asked["echo"] = "prompt_logprobs"
    return asked


def _refusal(model: Model, field: str, feature: str) -> str:
    what = {
        "top_logprobs": "gives the chosen tokens only; ask for logprobs without a number of others",
        "prompt_logprobs": "has no log probabilities of the prompt; leave out echo or logprobs",
    }.get(feature, f"can't do it; leave out {field}")
    engines = " or ".join(able(feature)) or "none"
    return f"The {model.engine} engine of {model.id} {what}. Engines that can: {engines}."

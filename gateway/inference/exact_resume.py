"""What `require_exact_resume` asks for: should an answer be interrupted, it goes on as if nothing had happened.

Its engine must keep all that the request uses, and compute in 32 bits (docs/engines.md). Knows no provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.grammars.forms import form_of
from gateway.inference.abilities import features_of
from gateway.models.engines import SPECS, keeping
from gateway.models.entry import Model

FIELD = "require_exact_resume"
_WORDS = {
    "greedy": "greedy answers",
    "seed": "a seed (at temperature 0 none is needed)",
    "grammar": "forms and calls of tools",
}


def not_kept(model: Model, request: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the engine of a model would not keep of a request, which has all defaults: by field, what is wrong."""
    text = _obstacle(model, request) if request.get(FIELD) else ""
    return {FIELD: [text]} if text else {}


def _obstacle(model: Model, request: Mapping[str, Any]) -> str:
    spec = SPECS.get(model.engine)
    if not model.local:
        return f"{model.id} is a provider's, whose answers can't be resumed. Take a local model."
    used = _used(request)
    if used.isdisjoint({"seed", "greedy"}):
        return "A sampled answer without a seed is another one each time. Give a seed, or temperature 0."
    lost = sorted(used - spec.keeps) if spec else []
    if not lost:
        return ""
    what = " and ".join(_WORDS.get(feature, feature) for feature in lost)
    text = f"The {model.engine} engine of {model.id} does not keep {what} over a resume."
    return f"{text} Ask without, or a model on an engine that keeps all of it: {' or '.join(keeping(used)) or 'none'}."


def require_32_bits(model_id: str, request: Mapping[str, Any], effective: Iterable[Mapping[str, Any]]) -> None:
    """Check the effective options of a model's replicas: in 16 bits near ties fall otherwise when a cache is made anew.

    Raises: InvalidRequest.
    """
    if request.get(FIELD) and not all(options.get("in_32_bits") for options in effective):
        text = f"{model_id} is computed or kept in fewer than 32 bits: near ties may fall otherwise after a resume."
        raise InvalidRequest.of({FIELD: [f"{text} Deploy it in 32 bits, as docs/engines.md says, or leave this out."]})


def _used(request: Mapping[str, Any]) -> set[str]:
    """The features that a request uses, in the words of `EngineSpec.keeps`."""
    used = set(features_of(request).values())
    if request.get("temperature") == 0 or request.get("top_p") == 0:
        used = used - {"seed"} | {"greedy"}
    return used | {"grammar"} if form_of(request) or request.get("tools") else used

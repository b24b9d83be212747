"""The fields that OpenAI's own server knows of a request, from its API reference, by the kind of job that it becomes.

Those that nobody here reads are passed on to remote models. Where a setting says so, any other field is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from marshmallow import ValidationError

from schemas.base.bounds import MAX_ERRORS

_CHAT = (
    *("audio", "function_call", "functions", "logit_bias", "metadata", "modalities", "moderation", "prediction"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format"),
    *("safety_identifier", "service_tier", "verbosity", "web_search_options"),
)
#: By the kind of job.
OPENAI_FIELDS: Mapping[str, frozenset[str]] = {
    "chat": frozenset(_CHAT),
    "completion": frozenset(("best_of", "logit_bias", "suffix")),
    "embedding": frozenset(),
}
#: Values that ask for what is done anyway, so that nothing is ignored.
_AS_IT_IS: Mapping[str, tuple[object, ...]] = {
    "modalities": (["text"],),
    "best_of": (1,),
    "service_tier": ("auto", "default"),
    "moderation": (None,),
}


def require_known(kind: str, passed_on: Iterable[str]) -> None:
    """Raises: ValidationError, naming fields that OpenAI does not know either."""
    strangers = sorted(set(passed_on) - OPENAI_FIELDS[kind])[:MAX_ERRORS]
    if strangers:
        text = "Neither OpenAI nor this server knows this field, and it is set to refuse such (OPENAI_UNKNOWN_FIELDS)."
        raise ValidationError({name: [text] for name in strangers})


def ignored(passed_on: Mapping[str, object]) -> list[str]:
    """The fields that change nothing for a model that is not passed them, in order."""
    return sorted(name for name, value in passed_on.items() if value not in _AS_IT_IS.get(name, ()))

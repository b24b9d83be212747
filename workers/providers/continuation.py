"""Which begun answers can be gone on with, and by whom: an answer with a form must be valid as a whole. Pure."""

from __future__ import annotations

from functools import lru_cache

from gateway.errors import InvalidRequest
from gateway.grammars.forms import Form, form_of, grammar_of
from gateway.grammars.quotient import rest
from gateway.models.entry import Model
from gateway.store.codec import dumps, loads
from schemas.base.tool_choice import is_forced
from workers.providers.transcript import Transcript


def is_bound(transcript: Transcript) -> bool:
    """Whether a begun answer is worth nothing unless it is whole: it has a form, has begun a call, or must call."""
    return (
        form_of(transcript.job.request) is not None
        or transcript.has_calls
        or is_forced(transcript.job.request.get("tool_choice"))
    )


def fits(transcript: Transcript, model: Model) -> bool:
    """Whether what a model adds to the begun answers can be what the request asks for.

    Providers go on from a text freely, so they can promise no form; local models are held to what may still follow.
    """
    request = transcript.job.request
    if not transcript.continuable or is_forced(request.get("tool_choice")):
        return False
    form = form_of(request)
    if form is None:
        return True
    if not model.local:
        return False
    begun = tuple(text for index in transcript.missing if (text := transcript.choices[index].text))
    return _may_follow(form.kind, dumps(form.value), form.field, begun)


@lru_cache(maxsize=8)
def _may_follow(kind: str, value: bytes | str, field: str, begun: tuple[str, ...]) -> bool:
    """Whether something may still follow each text. Kept, since it is asked once for each model that might go on."""
    try:
        grammar = grammar_of(Form(kind, loads(value), field))
    except InvalidRequest:
        return False
    return all(rest(grammar, text) is not None for text in begun)

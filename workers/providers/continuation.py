"""Which begun answers can be gone on with, and by whom: an answer with a form must be valid as a whole. Pure."""

from __future__ import annotations

from gateway.errors import InvalidRequest
from gateway.grammars.forms import form_of, grammar_of
from gateway.grammars.quotient import rest
from gateway.models.entry import Model
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
    try:
        grammar = grammar_of(form)
    except InvalidRequest:
        return False
    begun = [transcript.choices[index].text for index in transcript.missing]
    return all(rest(grammar, text) is not None for text in begun if text)

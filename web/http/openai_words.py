"""Messages of errors with words that OpenAI's clients look for: some tell errors by their text, not by their code."""

from __future__ import annotations

from gateway.errors import HeadraceError

#: LiteLLM looks for the first, LangChain for the second.
_TOO_LONG = ("maximum context length is", "prompt is too long")
_SAYS_BOTH = "This model's maximum context length is exceeded: the prompt is too long."
#: By this LiteLLM tells a wrong key from a wrong request, whose type is the same.
_WRONG_KEY = "Incorrect API key provided"


def message(error: HeadraceError) -> str:
    """The error's own message, with what is missing in it."""
    said = error.message
    if error.reason == "context_length_exceeded" and not all(words in said for words in _TOO_LONG):
        return f"{said} {_SAYS_BOTH}"
    if error.http_status == 401 and error.reason != "no_api_key" and _WRONG_KEY not in said:
        return f"{_WRONG_KEY}. {said}"
    return said

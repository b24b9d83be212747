"""Messages below /v1 have the words that clients look for."""

from __future__ import annotations

import pytest

from gateway.errors import BadRequest, ContextTooLong, HeadraceError, Unauthenticated
from web.http.openai import OpenAI


def said(error: HeadraceError) -> str:
    return str(OpenAI().error(error)[1]["error"]["message"])


@pytest.mark.parametrize(
    "text",
    ["prompt is too long: 9000 tokens > 8192 maximum", "This model's maximum context length is 8192 tokens.", "No."],
)
def test_a_prompt_that_is_too_long_is_told_in_the_words_of_langchain_and_litellm(text: str) -> None:
    message = said(ContextTooLong(text))
    assert message.startswith(text)
    assert "prompt is too long" in message
    assert "this model's maximum context length is" in message.lower()


def test_what_says_so_already_is_left_as_it_is() -> None:
    text = "This model's maximum context length is 8192 tokens, but the prompt is too long."
    assert said(ContextTooLong(text)) == text
    assert said(BadRequest("No.")) == "No."


def test_a_wrong_key_is_told_in_the_words_of_litellm() -> None:
    assert said(Unauthenticated("It is unknown.")) == "Incorrect API key provided. It is unknown."

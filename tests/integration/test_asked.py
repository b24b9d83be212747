"""What a request asks of an answer beside its text: its length, and how its prompt is given. Over the OpenAI client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.integration.conftest import CHAT_MODEL as MODEL
from tests.integration.conftest import ODD
from tests.integration.test_openai import QUESTION, connect
from tests.integration.test_rest import fake_text
from tests.stack import Stack


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with connect(stack) as client:
        yield client


def test_an_answer_that_nobody_limits_goes_on_to_its_models_end(client: openai.OpenAI) -> None:
    """The fake engine never ends one: its model's `max_tokens` does, where the catalog has no default for answers."""
    answer = client.chat.completions.create(model=ODD, messages=QUESTION)
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2048 - 6)
    short = client.chat.completions.create(model="fake", messages=QUESTION)
    assert short.usage is not None
    assert short.usage.completion_tokens == 512, "as the catalog says of this one"


def test_a_prompt_may_be_the_ids_of_its_tokens(client: openai.OpenAI) -> None:
    ids = client.completions.create(model="fake", prompt=[1, 2, 3], max_tokens=3, echo=True)
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3
    assert ids.choices[0].text == " w1 w2 w3" + fake_text(ids.id, 3)
    lists = client.completions.create(model="fake", prompt=[[5], [6, 7]], n=2, max_tokens=2, echo=True)
    assert lists.usage is not None
    assert lists.usage.prompt_tokens == 3
    prompts = (" w5", " w5", " w6 w7", " w6 w7")
    assert [c.text for c in lists.choices] == [
        prompt + fake_text(lists.id, 2, index) for index, prompt in enumerate(prompts)
    ]


def test_what_is_streamed_of_an_echo_is_what_the_answer_has(client: openai.OpenAI) -> None:
    stream = list(client.completions.create(model="fake", prompt=[1, 2], max_tokens=2, echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in stream) == " w1 w2" + fake_text(stream[0].id, 2)


def test_a_real_model_goes_on_from_ids_as_from_their_text(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "temperature": 0, "max_tokens": 4}
    text = client.completions.create(prompt="One two three", **asked)
    ids = client.completions.create(prompt=[2705, 827, 1296], **asked)
    assert text.usage == ids.usage
    assert text.choices[0].text == ids.choices[0].text
    with pytest.raises(openai.BadRequestError, match="token id 49152; allowed: 0 to 49151"):
        client.completions.create(prompt=[2705, 49_152], **asked)
    with pytest.raises(openai.BadRequestError, match="no tokens, so there is nothing to go on from"):
        client.completions.create(prompt="", **asked)


@pytest.mark.parametrize(
    "prompt", [[], [[]], [1, "a"], [1, -1], [[1], "a"], ["a", [1]], [1.5], [True], [[1] for _ in range(65)]]
)
def test_a_prompt_that_is_neither_is_refused(client: openai.OpenAI, prompt: Any) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="fake", prompt=prompt, max_tokens=1)
    assert str(wrong.value.param).startswith("prompt")

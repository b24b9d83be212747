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


def test_likely_tokens_beside_the_chosen_ones(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model="fake", messages=QUESTION, max_tokens=2, logprobs=True, top_logprobs=3)
    assert chat.choices[0].logprobs is not None
    for entry in chat.choices[0].logprobs.content or []:
        assert [(len(entry.top_logprobs), one.logprob) for one in entry.top_logprobs[:1]] == [(3, entry.logprob)]
        assert entry.top_logprobs[0].token == entry.token
    asked: Any = {"model": "fake", "prompt": "a", "max_tokens": 2, "logprobs": 2}
    whole = client.completions.create(**asked)
    found = whole.choices[0].logprobs
    assert found is not None
    assert [list(top.values()) for top in found.top_logprobs or []] == [[-1.0, -2.0]] * 2
    stream = client.completions.create(stream=True, **asked)
    streamed = [c.choices[0].logprobs.top_logprobs for c in stream if c.choices and c.choices[0].logprobs]
    assert [list(top.values()) for tops in streamed for top in tops or []] == [[-1.0, -2.0]] * 2


def test_what_an_evaluation_asks_for_is_the_prompt_alone(client: openai.OpenAI) -> None:
    """As lm-eval does: no answer, the prompt as text or ids, and the log probabilities of its tokens."""
    asked: Any = {"model": "fake", "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
    answer = client.completions.create(prompt=[[5, 6, 7], [8, 9]], **asked)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 0)
    assert [choice.text for choice in answer.choices] == [" w5 w6 w7", " w8 w9"]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens == [" w5", " w6", " w7"]
    assert found.token_logprobs == [None, -2.0, -2.0]
    assert found.text_offset == [0, 3, 6]
    assert (found.top_logprobs or [])[0] is None
    longer = client.completions.create(prompt="one two", **{**asked, "max_tokens": 2})
    assert longer.choices[0].text == "one two" + fake_text(longer.id, 2)
    assert longer.choices[0].logprobs is not None
    assert len(longer.choices[0].logprobs.tokens or []) == 4
    with pytest.raises(openai.BadRequestError, match=r"openvino engine .* of the prompt.* fake or transformers"):
        client.completions.create(prompt="a", **{**asked, "model": MODEL})


def test_an_answer_of_no_tokens_needs_no_engine(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=0)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("", "length")
    echo = client.completions.create(model=MODEL, prompt="One two", max_tokens=0, echo=True)
    assert echo.choices[0].text == "One two"


def test_tokens_are_pushed_and_left_out(client: openai.OpenAI) -> None:
    asked: Any = {"model": "fake", "messages": QUESTION, "max_tokens": 3}
    forced = client.chat.completions.create(logit_bias={"77": 100}, **asked)
    assert forced.choices[0].message.content == " w77 w77 w77"
    client.chat.completions.create(extra_body={"min_p": 0.5}, **{**asked, "model": MODEL})
    with pytest.raises(openai.BadRequestError, match="logit_bias holds the token id 60000"):
        client.chat.completions.create(logit_bias={"60000": 1}, **asked)
    with pytest.raises(openai.BadRequestError, match=r"leave out logit_bias\. Engines that can: fake or transformers"):
        client.chat.completions.create(logit_bias={"7": 1}, **{**asked, "model": MODEL})


@pytest.mark.parametrize("bias", [{"a": 1}, {"1": 101}, {"1": "x"}, {"-1": 1}, [1], {str(i): 1 for i in range(1025)}])
def test_a_bias_of_another_shape_is_refused(client: openai.OpenAI, bias: Any) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.post("/completions", body={"model": "fake", "prompt": "a", "logit_bias": bias}, cast_to=object)
    assert wrong.value.param == "logit_bias"

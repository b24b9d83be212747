"""What vLLM's scheduler is told of a grammar: masks, whether a token may come, and the end of what takes too much."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from workers.engines.base import EngineRequestError
from workers.engines.grammars.token_masks import Grammars
from workers.engines.vllm.forms import Form, FormBackend

#: Bytes, and words of two letters of all lengths: there are many ways to go on.
TOKENS = [
    *(bytes([byte]) for byte in range(256)),
    *(bytes(word) for length in range(2, 9) for word in itertools.product(b"ab", repeat=length)),
]
#: The model knows more ids than its tokenizer has tokens, and one that ends an answer.
VOCABULARY = len(TOKENS) + 70
EOS_ID = VOCABULARY - 1
#: Compiled in a moment; then each letter may be the one that counts.
BOMB = "start: /([ab]*a[ab]{60}c)|([ab]*b[ab]{61}d)|((ab|b)*a[ab]{50}e)/"


@pytest.fixture(scope="module")
def backend() -> FormBackend:
    tokens = TOKENS + [b""] * (VOCABULARY - len(TOKENS))
    return FormBackend(Grammars(tokens, lambda text: list(text.encode())), VOCABULARY)


def allowed(backend: FormBackend, form: Form) -> list[int]:
    masks = backend.allocate_token_bitmask(3)
    form.fill_bitmask(masks, 1)
    assert set(masks[[0, 2]].flatten().tolist()) == {-1}, "the rows of others are as they were"
    bits = masks[1].unsqueeze(1).bitwise_right_shift(torch.arange(32)).bitwise_and(1).flatten()
    return [int(i) for i in bits.nonzero()]


def test_a_form_allows_what_may_come_and_the_end_where_it_may_end(backend: FormBackend) -> None:
    form = backend.compile_grammar(None, 'start: ("a" | "ab" | "x") "c"?', {EOS_ID})
    ab = TOKENS.index(b"ab")
    assert allowed(backend, form) == [ord("a"), ord("x"), ab]
    assert form.accept_tokens("0", [ab])
    assert allowed(backend, form) == [ord("c"), EOS_ID]
    assert not form.is_terminated()
    assert form.accept_tokens("0", [EOS_ID])
    assert form.is_terminated()


def test_a_token_that_does_not_fit_ends_the_answer_with_the_reason(backend: FormBackend) -> None:
    grammar = 'start: "red"'
    form = backend.compile_grammar(None, grammar, {EOS_ID})
    assert not form.accept_tokens("0", [ord("x")])
    assert backend.why(grammar).startswith("The answer can't follow its grammar any more")


def test_what_takes_too_much_ends_the_answer_and_no_other(backend: FormBackend) -> None:
    form = backend.compile_grammar(None, BOMB, {EOS_ID})
    letters = random.Random(0)
    for _ in range(200):
        every = allowed(backend, form)
        if not form.accept_tokens("0", [letters.choice(b"ab")]):
            break
    assert len(every) == VOCABULARY + -VOCABULARY % 32
    assert backend.why(BOMB).startswith("The grammar takes too much: ")
    other = backend.compile_grammar(None, 'start: "a" | "x"', {EOS_ID})
    assert allowed(backend, other) == [ord("a"), ord("x")]


def test_what_can_not_be_compiled_is_an_error_that_is_remembered(backend: FormBackend) -> None:
    with pytest.raises(EngineRequestError, match="nowhere"):
        backend.compile_grammar(None, "start: nowhere", {EOS_ID})
    assert "nowhere" in backend.why("start: nowhere")

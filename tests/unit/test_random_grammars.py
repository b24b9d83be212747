"""Random grammars: what may follow a text, and what llguidance makes of them, against what they accept."""

from __future__ import annotations

import itertools
import random

import llguidance
import pytest

from gateway.grammars import regex
from gateway.grammars.grammar import Grammar, Part, tidy
from gateway.grammars.lark import to_lark
from gateway.grammars.quotient import accepts, rest
from gateway.grammars.regex import Regex
from gateway.grammars.trial import byte_tokenizer

TEXTS = ["".join(text) for length in range(6) for text in itertools.product("abc"[: 3 - length // 4], repeat=length)]
TIMES: list[tuple[int, int | None]] = [(0, None), (0, 1), (1, 2), (2, None), (0, 3)]


def some_regex(source: random.Random, depth: int = 2) -> Regex:
    kind = source.randrange(8 if depth else 3)
    if kind < 2:
        return regex.literal("".join(source.choice("ab") for _ in range(source.randint(1, 3))))
    if kind == 2:
        return regex.one_of(source.choice(["a", "b", "ab", "bc"]))
    one, other = some_regex(source, depth - 1), some_regex(source, depth - 1)
    return (
        regex.cat(one, other),
        regex.alt(one, other),
        regex.rep(one, *source.choice(TIMES)),
        regex.both(one, other),
        regex.both(regex.rep(regex.one_of("abc"), 0, source.choice([None, 3])), regex.negation(one)),
    )[kind - 3]


def some_grammar(source: random.Random) -> Grammar | None:
    count = source.randint(1, 4)

    def symbol() -> Regex | Part:
        if source.random() < 0.6:
            return some_regex(source)
        return Part(source.randrange(count), *source.choice([(1, 1), (1, 1), *TIMES]))

    def alternative() -> tuple[Regex | Part, ...]:
        return tuple(symbol() for _ in range(source.randint(0, 3)))

    return tidy([[alternative() for _ in range(source.randint(1, 3))] for _ in range(count)], 0)


def llguidance_accepts(lark: str, text: str) -> bool:
    matcher = llguidance.LLMatcher(byte_tokenizer(), llguidance.LLMatcher.grammar_from_lark(lark))
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting())


def require_same(seed: int, texts: int) -> None:
    source = random.Random(seed)
    grammar = some_grammar(source)
    if grammar is None:
        return
    lark = to_lark(grammar)
    for text in source.sample(TEXTS, texts):
        expected = accepts(grammar, text)
        assert llguidance_accepts(lark, text) == expected, (text, lark)
        cut = source.randint(0, len(text))
        left = rest(grammar, text[:cut])
        assert (left is not None and accepts(left, text[cut:])) == expected, (text, cut)
        if left is not None:
            again = rest(left, text[cut : cut + 1])
            assert (again is not None and accepts(again, text[cut + 1 :])) == (expected and cut <= len(text)), text


@pytest.mark.parametrize("seed", range(12))
def test_a_random_grammar_means_the_same_to_everybody(seed: int) -> None:
    require_same(seed, 12)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_hundreds_of_random_grammars_mean_the_same_to_everybody(block: int) -> None:
    for seed in range(100 + 60 * block, 160 + 60 * block):
        require_same(seed, 40)

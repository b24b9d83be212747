"""Whether an engine will take a grammar: found out by the process that was asked, before anybody queues."""

from __future__ import annotations

from functools import cache
from typing import Any

import llguidance

from gateway.grammars.ebnf import to_ebnf
from gateway.grammars.fuel import TooLarge
from gateway.grammars.grammar import Alternative, Grammar, Part
from gateway.grammars.lark import to_lark
from gateway.grammars.regex import Literal

#: Most symbols and nodes of one grammar.
MAX_SIZE = 25_000
#: Characters that the shortest text may have, about.
MAX_SHORTEST = 100_000
#: Steps that its lexemes may take; an engine's own process has more.
_STEPS = 30_000
#: Looks at all rules to find the shortest text.
_ROUNDS = 100
_EOS = 256


class _Bytes:
    """A vocabulary of single bytes: the grammar is tried with no model's own."""

    eos_token_id, bos_token_id, unk_token_id = _EOS, None, None
    tokens = [*(bytes([each]) for each in range(_EOS)), b"<eos>"]
    special_token_ids = [_EOS]

    def __call__(self, text: Any) -> list[int]:
        return list(text if isinstance(text, bytes) else str(text).encode())


@cache
def byte_tokenizer() -> llguidance.LLTokenizer:
    """A vocabulary of single bytes and an end."""
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()), n_vocab=_EOS + 1, slices=[])


@cache
def limits() -> llguidance.LLParserLimits:
    """What one grammar may cost: some tens of milliseconds."""
    return llguidance.LLParserLimits(
        initial_lexer_fuel=500_000, step_lexer_fuel=200_000, step_max_items=50_000, max_grammar_size=200_000
    )


def check(grammar: Grammar) -> None:
    """Raises: TooLarge if it is more than an engine would take."""
    if grammar.size > MAX_SIZE:
        raise TooLarge(f"It has {grammar.size} parts; at most {MAX_SIZE} are taken.")
    if shortest(grammar) > MAX_SHORTEST:
        raise TooLarge(f"Its shortest text has more than {MAX_SHORTEST} characters.")
    to_ebnf(grammar)
    text = llguidance.LLMatcher.grammar_from_lark(to_lark(grammar, _STEPS))
    matcher = llguidance.LLMatcher(byte_tokenizer(), text, limits=limits(), log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise TooLarge(f"It can't be compiled: {matcher.get_error().splitlines()[0][:200]}")


def shortest(grammar: Grammar) -> int:
    """About how many characters its shortest text has, or more than `MAX_SHORTEST`."""
    far = MAX_SHORTEST + 1
    found = [far] * len(grammar.rules)
    for _ in range(_ROUNDS):
        before = list(found)
        for number in reversed(range(len(found))):
            found[number] = min((_length(each, found) for each in grammar.rules[number]), default=far)
        if found == before:
            break
    return min(far, found[grammar.start])


def _length(alternative: Alternative, found: list[int]) -> int:
    total = 0
    for symbol in alternative:
        if isinstance(symbol, Part):
            total += symbol.least * found[symbol.rule]
        elif isinstance(symbol, Literal):
            total += len(symbol.text)
        else:
            total += not symbol.nullable
    return total

"""Grammars of answers: what they accept, what may follow a text, and what engines read."""

from __future__ import annotations

import json

from gateway.grammars import regex
from gateway.grammars.ebnf import to_ebnf
from gateway.grammars.forms import Form, grammar_of
from gateway.grammars.grammar import Grammar, Part, either, literal, of_regex, repeated, sequence, text_without
from gateway.grammars.lark import to_lark
from gateway.grammars.quotient import accepts, rest

#: Brackets around brackets.
NESTED = Grammar((((regex.literal("("), Part(0, 0, 1), regex.literal(")")),),))
#: A list that ends with itself.
LIST = Grammar((((regex.literal("x"),), (regex.literal("x"), regex.literal(","), Part(0))),))


def test_grammars_are_put_together() -> None:
    calls = sequence(
        repeated(sequence(text_without("<t>"), literal("<t>"), NESTED), 1, 2), either(literal("."), NESTED)
    )
    assert accepts(calls, "say <t>(())<t>()(())")
    assert accepts(calls, "<t>().")
    assert not accepts(calls, "<t>()<t>()<t>().")
    assert not accepts(calls, "say .")


def test_what_may_follow_a_text_is_a_grammar() -> None:
    left = rest(NESTED, "((")
    assert left is not None
    assert [accepts(left, text) for text in ("))", "()))", ")", "")] == [True, True, False, False]
    assert rest(NESTED, "()(") is None
    ended = rest(NESTED, "()")
    assert ended is not None and accepts(ended, "") and not accepts(ended, ")")


def test_a_long_list_is_read_in_linear_time() -> None:
    left = rest(LIST, "x," * 3_000)
    assert left is not None and accepts(left, "x,x")


def test_any_json_object_is_accepted_and_gone_on_with() -> None:
    grammar = grammar_of(Form("json", {"type": "object"}, "response_format"))
    text = json.dumps({"a": [{"b": "ä" * 50, "c\n": -1.5e3}, [], {}], "d": None}, ensure_ascii=False)
    for cut in range(len(text)):
        left = rest(grammar, text[:cut])
        assert left is not None and accepts(left, text[cut:])
    assert not accepts(grammar, "[]")


def test_engines_read_it_in_their_language() -> None:
    grammar = sequence(literal('"a"'), NESTED)
    assert to_lark(grammar).startswith("start: r0\n")
    assert to_ebnf(grammar).startswith("root ::= r0\n")


def test_no_digit_stands_behind_what_xgrammar_writes_in_hex() -> None:
    """It reads its own `\\xdf` and the `e` behind it as one character."""
    assert 'r0 ::= "grö" "ß" "er"\n' in to_ebnf(literal("größer"))
    assert "[0-9\\x1f]" in to_ebnf(of_regex(regex.alt(regex.literal("\x1f"), *map(regex.literal, "0123456789"))))

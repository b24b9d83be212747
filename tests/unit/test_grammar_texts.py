"""Grammars as clients write them, and what of them can't be done."""

from __future__ import annotations

import pytest

from gateway.grammars.fuel import Refused
from gateway.grammars.lark import to_lark
from gateway.grammars.notations import read_grammar
from gateway.grammars.quotient import accepts, rest
from gateway.grammars.trial import check
from tests.unit.test_random_grammars import llguidance_accepts

JSON_GBNF = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
SQL_LARK = """
start: select_statement
select_statement: "SELECT " column (", " column)* " from " TABLE [" where " condition]
?column: "col_1" | "col_2" -> second
condition: column " = " (INT | ESCAPED_STRING)
%import common.INT
%import common.ESCAPED_STRING
TABLE: /table_[0-9]{1,3}/
"""
CALC_LARK = r"""
// The calculator of Lark's own documents.
?start: sum
?sum: product
    | sum "+" product   -> add
    | sum "-" product   -> sub
?product: atom
    | product "*" atom  -> mul
?atom: NUMBER           -> number
    | "-" atom          -> neg
    | "(" sum ")"
%import common.NUMBER
%import common.WS_INLINE
%ignore WS_INLINE
"""
CASES = [
    (JSON_GBNF, ['{"a": [1, -2.5e3], "b": {} }', "{}", '{"a":"\\u00e4"}'], ["[]", '{"a"  : 1}', '{"a":1,}']),
    ('root ::= "yes" | "no"', ["yes", "no"], ["", "yesno"]),
    ("root ::= [a-c]{2,3} [^x]?", ["ab", "abc", "abz"], ["a", "abx"]),
    ('root ::= expr\nexpr ::= expr "+" term | term\nterm ::= [0-9]+', ["1", "1+22+3"], ["+", "1+"]),
    (
        SQL_LARK,
        ["SELECT col_1 from table_1", 'SELECT col_1, col_2 from table_12 where col_1 = "x"'],
        ["SELECT from table_1"],
    ),
    ('start: "a" ("b" | "c")~2', ["abc", "acc"], ["ab", "abcb"]),
    ('start: A B*\nA: /x+/\nB: "y"i | "0".."2"', ["xx", "xyY1"], ["y", "x3"]),
    (CALC_LARK, ["1", "1 + 2*(3 - 4)", "  -1.5"], ["1 +", "()"]),
]


@pytest.mark.parametrize(("text", "valid", "invalid"), CASES)
def test_grammars_of_clients_are_read(text: str, valid: list[str], invalid: list[str]) -> None:
    grammar = read_grammar(text)
    check(grammar)
    lark = to_lark(grammar)
    for each in valid:
        assert accepts(grammar, each) and llguidance_accepts(lark, each), each
        for cut in range(len(each)):
            left = rest(grammar, each[:cut])
            assert left is not None and accepts(left, each[cut:])
    for each in invalid:
        assert not accepts(grammar, each) and not llguidance_accepts(lark, each), each


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "Has neither a rule root ::= … (GBNF, xgrammar's EBNF) nor start: … (Lark). at line 1"),
        ('root ::= "a" other', "There is no rule 'other'. at line 1"),
        ('root ::= "a"\nroot ::= "b"', "'root' is there twice. at line 2"),
        ('roof ::= "a"', "There is no rule 'root'."),
        ('root ::= "a" )', "Got ')'; expected NAME ::= … at line 1"),
        ('root ::= "a"{9999999}', "Got 9999999 to 9999999 times; at most 100000 are taken. at line 1"),
        ("root ::= root", "No text follows it."),
        ('start: "a"\n%declare B', "%declare can't be done; allowed: %import, %ignore. at line 2"),
        ('start: "a" /(?<=b)/', "Holds a look-around inside a group, or behind, which can't be done. at line 1"),
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "Got '('; groups are nested too deeply. at line 1"),
    ],
)
def test_what_can_not_be_done_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(Refused) as error:
        read_grammar(text)
    assert str(error.value) == said

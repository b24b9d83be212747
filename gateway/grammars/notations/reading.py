"""Which notation a grammar's text is in."""

from __future__ import annotations

import re

from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Grammar
from gateway.grammars.notations.lark_text import read_lark
from gateway.grammars.notations.llama_cpp import read_gbnf

_GBNF = re.compile(r"^[ \t]*[a-zA-Z_][a-zA-Z0-9_.-]*[ \t\r\n]*::=", re.MULTILINE)
_LARK = re.compile(r"^[ \t]*[?!]*start(?:\.[0-9]+)?[ \t]*:", re.MULTILINE)


def read_grammar(text: str) -> Grammar:
    """A grammar in GBNF (`root ::= …`) or in Lark (`start: …`). Raises: Refused, with the line."""
    if _GBNF.search(text):
        return read_gbnf(text)
    if _LARK.search(text):
        return read_lark(text)
    raise Refused("Has neither a rule root ::= … (GBNF, xgrammar's EBNF) nor start: … (Lark).", place="line 1")

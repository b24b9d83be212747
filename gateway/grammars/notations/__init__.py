"""Grammars as clients write them: GBNF (llama.cpp's, which xgrammar's EBNF is like) and Lark."""

from gateway.grammars.notations.reading import read_grammar

__all__ = ["read_grammar"]

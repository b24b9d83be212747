"""Answers that must have a form: what may still follow the text so far, and where a resume may begin."""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Any

from gateway.errors import GenerationFailed
from gateway.grammars.ebnf import to_ebnf
from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Grammar
from gateway.grammars.lark import to_lark
from gateway.grammars.quotient import rest
from gateway.grammars.regex import EMPTY
from workers.engines.base import SequenceOutput
from workers.tokenizers.load import Tokenizer

_WRITTEN = {"lark": to_lark, "ebnf": to_ebnf}
#: Grammars whose text is kept: applications send the same form again and again.
_KEPT = 64
#: Fields of an output that have an entry for each token.
_OF_TOKENS = [name for name in ("token_ids", "logprobs", "likely") if name in SequenceOutput._fields]
#: What makes the empty text, and no other.
_OVER = ([()], [(EMPTY,)])


def still_to_come(grammar: Grammar, text: str, language: str) -> str:
    """What may follow the text of an answer, in an engine's language; empty if nothing may.

    Raises: GenerationFailed if the text does not have the form, or it takes too much to find out.
    """
    try:
        left = rest(grammar, text) if text else grammar
        if left is None:
            raise GenerationFailed("The text so far does not have the form that was asked for, so it can't go on.")
        return "" if list(left.rules[left.start]) in _OVER else _written(left, language)
    except Refused as error:
        raise GenerationFailed(f"The answer can't go on in its form. {error}") from error


@lru_cache(maxsize=_KEPT)
def _written(grammar: Grammar, language: str) -> str:
    return _WRITTEN[language](grammar)


class WholeCharacters:
    """Keeps back tokens that leave a character unfinished: no resume begins within one, where no grammar fits."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: Tokens that are kept back, with what belongs to each.
        self._kept: dict[str, list[Any]] = {name: [] for name in _OF_TOKENS}

    def push(self, output: SequenceOutput) -> SequenceOutput:
        """The output with the tokens that were kept back, as far as they make whole characters; at the end all."""
        whole = 0
        for count, token_id in enumerate(output.token_ids, len(self._kept["token_ids"]) + 1):
            self._decoder.decode(self._bytes(token_id))
            if not self._decoder.getstate()[0]:
                whole = count
        every = {name: [*kept, *(getattr(output, name) or ())] for name, kept in self._kept.items()}
        if output.finish_reason is not None:
            whole = len(every["token_ids"])
        self._kept = {name: values[whole:] for name, values in every.items()}
        ready: dict[str, Any] = {name: values[:whole] or None for name, values in every.items()}
        return output._replace(**{**ready, "token_ids": ready["token_ids"] or []})

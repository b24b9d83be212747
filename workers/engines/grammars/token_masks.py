"""Grammars over the tokens of one model, by llguidance: which tokens may come next. In its own language, Lark.

Knows no engine. What a grammar may cost is limited by fuel, not by the clock, so that all processes judge alike.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from workers.engines.base import EngineRequestError

#: What one grammar may take. Speeds are llguidance's own figures.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,  # 20 ms
    step_lexer_fuel=200_000,  # 14 ms
    step_max_items=50_000,  # 3 ms
    max_lexer_states=50_000,  # some 100 MB
    max_grammar_size=500_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
#: Compiled grammars that are kept.
MAX_KEPT = 64
#: The longest text of an error.
_ERROR_CHARACTERS = 300


class Vocabulary:
    """The tokens of a model as llguidance wants them, with one more behind them that ends an answer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], encode: Callable[[str], list[int]]) -> None:
        self._encode = encode
        #: Control tokens have no bytes, and no grammar has them.
        self.special_token_ids = [i for i, token in enumerate(tokens) if not token]
        self.special_token_ids.append(len(tokens))
        self.tokens = [token or b"<|control %d|>" % i for i, token in enumerate(tokens)]
        self.tokens.append(b"<|end|>")
        self.eos_token_id = len(tokens)

    def __call__(self, text: str | bytes) -> list[int]:
        """Ids of a text. Where a grammar allows one text only, it comes in these tokens."""
        return self._encode(text if isinstance(text, str) else text.decode(errors="replace"))


class Grammars:
    """Compiles grammars for one vocabulary, and keeps the last.

    `tokens` has the bytes of each id, none for control tokens; `encode` is the model's own way to write a text.
    """

    def __init__(self, tokens: Sequence[bytes], encode: Callable[[str], list[int]]) -> None:
        self.end_id = len(tokens)
        words = -(-(len(tokens) + 1) // 32)
        self.row_bytes = words * 4
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(Vocabulary(tokens, encode)), n_vocab=len(tokens) + 1, eos_token=self.end_id
        )
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, grammar: str) -> Matcher:
        """A fresh matcher. It may take some 100 ms, without the GIL. Any thread may call it.

        Raises: EngineRequestError.
        """
        with self._lock:
            compiled = self._kept.pop(grammar, None)
        if compiled is None:
            compiled = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
            if compiled.is_error():
                raise EngineRequestError(f"The grammar can't be used: {_short(compiled.get_error())}")
        with self._lock:
            self._kept[grammar] = compiled
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return Matcher(compiled.deep_copy(), self)


class Matcher:
    """What may follow in one answer. One thread at a time."""

    def __init__(self, matcher: Any, grammars: Grammars) -> None:
        self._matcher = matcher
        self._end_id = grammars.end_id
        self._words = grammars.row_bytes // 4

    def push(self, token_ids: Sequence[int]) -> None:
        """The tokens that came next. Raises: EngineRequestError if they can't, or the grammar takes too much."""
        if token_ids and not self._matcher.consume_tokens(list(token_ids)):
            raise EngineRequestError(f"The answer can't follow its grammar any more: {_short(self._error())}")

    def allowed(self, eos_ids: Sequence[int] = ()) -> NDArray[numpy.bool_]:
        """Which tokens may come next, `eos_ids` among them if the answer may end; the last stands for its end.

        Raises: EngineRequestError if the grammar takes too much, or nothing may come.
        """
        row = numpy.zeros(self._words, numpy.int32)
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        if self._matcher.is_error():
            raise EngineRequestError(f"The grammar takes too much: {_short(self._error())}")
        bits = numpy.unpackbits(row.view(numpy.uint8), bitorder="little", count=self._end_id + 1)
        allowed = bits.astype(numpy.bool_)
        allowed[list(eos_ids)] = allowed[self._end_id]
        if not allowed.any():
            raise EngineRequestError("The answer can't follow its grammar any more: no token fits.")
        return allowed

    def _error(self) -> str:
        return str(self._matcher.get_error())


def _short(error: str) -> str:
    return " ".join(error.split())[:_ERROR_CHARACTERS]

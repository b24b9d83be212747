"""Log probabilities as the journal keeps them: ids of an engine become texts, offsets and bytes. Knows no run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from gateway.jobs.journal import Logprob
from workers.engines.base import Likely, SequenceOutput, TokenLogprob
from workers.tokenizers.detokenizer import Offsets
from workers.tokenizers.load import Tokenizer


def answer_entries(tokenizer: Tokenizer, offsets: Offsets, ids: Sequence[int], output: SequenceOutput) -> list[Logprob]:
    """Of the first `ids` of an output."""
    likely: Iterable[Sequence[Likely]] = output.likely or repeat(())
    found = map(TokenLogprob, output.logprobs or (), likely)
    return [_entry(tokenizer, offsets, token_id, one) for token_id, one in zip(ids, found, strict=False)]


def prompt_entries(
    tokenizer: Tokenizer, offsets: Offsets, ids: Sequence[int], found: Sequence[TokenLogprob]
) -> list[Logprob]:
    """Of the tokens of a prompt."""
    return [_entry(tokenizer, offsets, token_id, one) for token_id, one in zip(ids, found, strict=True)]


def _entry(tokenizer: Tokenizer, offsets: Offsets, token_id: int, found: TokenLogprob) -> Logprob:
    """See `Logprob`: what is not needed at its end is left out."""
    text, raw, inexact = _spelled(tokenizer, token_id)
    likely: list[list[Any]] = []
    for other in found.likely:
        its_text, _, its_hex = _spelled(tokenizer, other.token_id)
        likely.append([its_text, other.logprob, *([its_hex] if its_hex else [])])
    entry = [text, found.logprob, offsets.push(raw)]
    return [*entry, inexact, likely] if likely else [*entry, *([inexact] if inexact else [])]


def _spelled(tokenizer: Tokenizer, token_id: int) -> tuple[str, bytes, str]:
    """The text of a token, its bytes, and these as hex digits if they are not those of the text."""
    raw = tokenizer.token_bytes(token_id)
    text = tokenizer.decode([token_id])
    return text, raw, "" if text.encode() == raw or not raw else raw.hex()

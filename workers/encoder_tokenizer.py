"""Text to the token ids of an encoder, from the `tokenizer.json` of its folder, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend


class EncoderTokenizer:
    """Inputs without and with the special tokens that the model wants around each, such as `[CLS]` and `[SEP]`."""

    def __init__(self, folder: Path) -> None:
        file = folder / "tokenizer.json"
        self._backend = Backend.from_file(str(file))
        self._backend.no_padding()
        self._backend.no_truncation()
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        plain, full = self.encode(["a"])[0], self._backend.encode("a").ids
        at = next(i for i in range(len(full)) if full[i : i + len(plain)] == plain)
        self._before, self._after = full[:at], full[at + len(plain) :]
        #: How many special tokens each input gets.
        self.num_special = len(self._before) + len(self._after)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts, without special tokens."""
        return [found.ids for found in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def unwrap(self, ids: Sequence[int]) -> list[int]:
        """Ids without the special tokens, if they stand around them."""
        before, after, plain = self._before, self._after, list(ids)
        if len(plain) >= self.num_special and plain[: len(before)] == before and plain[-len(after) :] == after:
            return plain[len(before) : len(plain) - len(after)]
        return plain

    def wrap(self, ids: Sequence[int]) -> list[int]:
        """Ids with the special tokens around them."""
        return [*self._before, *ids, *self._after]

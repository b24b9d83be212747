"""Text to the token ids of an encoder, from the `tokenizer.json` of its folder, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from gateway.store.codec import mended
from workers.formats.config import read_shape
from workers.formats.files import Files, LocalFiles, read_optional
from workers.tokenizers.folder import read_tokenizer_json

#: Files with the settings of sentence-transformers; the first that has any is used.
SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


class EncoderTokenizer:
    """Tokenizes inputs without and with the model's special tokens around each, such as `[CLS]` and `[SEP]`."""

    def __init__(self, folder: Path) -> None:
        """Raises: SourceFailed, or what `tokenizers` raises."""
        files = LocalFiles(folder)
        settings = sentence_settings(files)
        described = json.dumps(read_tokenizer_json(files))
        self._backend = Backend.from_str(described)
        self._backend.no_padding()
        self._backend.no_truncation()
        if lower := bool(settings.get("do_lower_case")):
            before = [self._backend.normalizer] if self._backend.normalizer else []
            self._backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
        self.digest = hashlib.sha256(f"{lower}{described}".encode()).hexdigest()[:16]
        plain, full = self.encode(["a"])[0], self._backend.encode("a").ids
        at = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
        self._before, self._after = full[:at], full[at + len(plain) :]
        #: How many special tokens each input gets.
        self.num_special = len(self._before) + len(self._after)
        limits = read_shape(files).context_length, int(settings.get("max_seq_length") or 0)
        #: Longest input in tokens, with special ones, by the model's positions and settings; 0 = unknown.
        self.max_tokens = min((limit for limit in limits if limit > 0), default=0)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts, without special tokens."""
        batch = self._backend.encode_batch_fast([mended(text) for text in texts], add_special_tokens=False)
        return [found.ids for found in batch]

    def unwrap(self, ids: Sequence[int]) -> list[int]:
        """Ids without the special tokens, if they stand around them."""
        before, after, plain = self._before, self._after, list(ids)
        end = len(plain) - len(after)
        if end >= len(before) and plain[: len(before)] == before and plain[end:] == after:
            return plain[len(before) : end]
        return plain

    def wrap(self, ids: Sequence[int]) -> list[int]:
        """Ids with the special tokens around them."""
        return [*self._before, *ids, *self._after]


def sentence_settings(files: Files) -> dict[str, Any]:
    """What sentence-transformers keeps of a model beside it. Raises: SourceFailed."""
    return next((found for name in SETTINGS if (found := read_optional(files, name))), {})

"""Token ids to certain text, one push at a time: no split characters, no part of a stop string. O(1) per token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from workers.tokenizers.load import Tokenizer


class IncrementalDetokenizer:
    """The text of one sequence. Text that may be part of a character or of a stop string is held back."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = list(stop)
        self._held = ""
        self._stopped = False

    def push(self, ids: Sequence[int], *, final: bool = False) -> tuple[str, bool, int]:
        """Add ids; `final` releases the text that was held back.

        Returns the text that became certain, whether a stop string has matched, and how many of the ids count
        (those up to the one that completed the match).
        """
        if not self._stop:
            text = "".join([self._decoder.decode(self._bytes(i)) for i in ids])
            return text + (self._decoder.decode(b"", True) if final else ""), False, len(ids)
        ready = ""
        for count, token_id in enumerate(ids, 1):
            if self._stopped:
                return ready, True, count - 1
            ready += self._add(self._decoder.decode(self._bytes(token_id)))
            if self._stopped:
                return ready, True, count
        if final:
            ready += self._add(self._decoder.decode(b"", True))
            if not self._stopped:
                ready, self._held = ready + self._held, ""
        return ready, self._stopped, len(ids)

    def _add(self, text: str) -> str:
        """Returns the text that is certain now; the rest is held back."""
        self._held += text
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            ready, self._held, self._stopped = self._held[: min(found)], "", True
            return ready
        keep = max(_overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready


class Offsets:
    """The offset of each token in the text of a choice, in characters. Parts of a character have the same offset."""

    def __init__(self, first: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = first

    def push(self, token: bytes) -> int:
        """Add a token. Returns where it begins."""
        begins = self._characters
        self._characters += len(self._decoder.decode(token))
        return begins


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
